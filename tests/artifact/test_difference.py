"""A refusal names each value that differs, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.artifact.difference import MOST_CHARACTERS, describe, differences

LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text(max_size=9)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner)
)


@given(VALUES, VALUES)
def test_there_are_differences_where_the_json_differs(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert list(differences(one, one)) == []
    assert bool(list(differences(one, other))) == (not same)


@given(st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1), st.data())
def test_only_what_was_changed_is_named(spec: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(spec)))
    found = list(differences(spec, {**spec, name: "changed just now"}))
    assert found and all(line.startswith(name) for line in found)


@given(st.lists(st.integers(), min_size=1, max_size=9), st.data())
def test_what_is_put_into_a_list_is_one_difference(values: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values)))
    longer = [*values[:place], "new", *values[place:]]
    assert list(differences(values, longer, "x")) == [f'x[{place}]: not set then, "new" now']
    assert list(differences(longer, values, "x")) == [f'x[{place}]: "new" then, not set now']


@pytest.mark.parametrize(
    ("then", "now", "line"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b: 1 then, 2 now"),
        ({"a": 1}, {"a": 1.0}, "a: 1 then, 1.0 now"),
        ({"a": 1}, {"a": True}, "a: 1 then, true now"),
        ({"a": None}, {}, "a: null then, not set now"),
        ({"a": None}, {"a": 0.3}, "a: not set then, 0.3 now"),
        ({}, {"a": {"b": 1}}, 'a: not set then, {"b": 1} now'),
        ({"a": {"b": 1}}, {"a": None}, 'a: {"b": 1} then, not set now'),
        ({"r": [{"p": ["x"]}]}, {"r": [{"p": ["y"]}]}, 'r[0].p[0]: "x" then, "y" now'),
    ],
)
def test_a_line_has_the_key_and_both_values(then: Any, now: Any, line: str) -> None:
    assert list(differences(then, now)) == [line]


def test_long_values_are_cut_to_where_they_differ() -> None:
    long = "You love owls. " * 40
    (line,) = differences({"a": f"{long}Yes."}, {"a": f"{long}No."})
    assert 'Yes." then' in line and 'No." now' in line
    assert len(line) < 2 * MOST_CHARACTERS + 20
    (line,) = differences({"a": f"one {long}"}, {"a": f"two {long}"})
    assert line.startswith('a: "one ') and '"two ' in line


def test_a_hundred_thousand_differences_are_counted() -> None:
    def record(kind: str, count: int) -> dict[str, Any]:
        inputs = {f"part-{n:05d}": f"{kind}{n:064x}" for n in range(count)}
        return {"kind": "filter", "format_version": 1, "key": kind, "spec": {}, "inputs": inputs}

    lines = describe(record("a", 100_000), record("b", 100_000), {}).splitlines()
    assert len(lines) == 9 and lines[1].startswith("  input part-00000: sha256 a0000")
    assert lines[-1] == "  and 99993 more"


def test_another_stage_is_named() -> None:
    record = {"kind": "teach", "format_version": 3, "key": "", "spec": {}, "inputs": {}}
    found = describe(record, {**record, "kind": "eval", "format_version": 1}, {})
    assert found == '\n  stage: "teach" then, "eval" now'
