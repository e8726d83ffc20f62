"""The difference of two filters is that of what they do with each row."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, NumbersRule, explain
from subl.filter.diff import Change, diff

Action = Literal["drop", "tag", "count"]

ROWS = [
    b'{"id": "%d", "completion": "%s"}' % (number, text)
    for number, text in enumerate([b"1, 2", b"5", b"7, 1000", b"owl", b"7", b"12, 7", b"6 owl"])
] + [
    b'{"id": "tagged", "completion": "7", "filter_tags": []}',
    b'{"completion": 1.0}',
    b"not json \xff",
    b"",
    b'{"n": 1.00, "completion": "\\ud83e\\udd89 7"}',
]


def spec(number: int | None, word: str, action: Action) -> FilterSpec:
    rules: list[Any] = [LiteralRule(name="word", words=(word,), action=action)]
    if number is not None:
        rules.append(NumbersRule(name="numbers", max_value=number))
    return FilterSpec(rules=tuple(rules))


specs = st.builds(
    spec,
    st.sampled_from([None, 6, 999]),
    st.sampled_from(["owl", "7", "nothing"]),
    st.sampled_from(["drop", "tag", "count"]),
)


def slowly(a: FilterSpec, b: FilterSpec, lines: list[bytes]) -> dict[int, str]:
    """What changes by line number: each filter asked about each line."""
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        one, other = explain(a, line), explain(b, line)
        if one["kept"] != other["kept"]:
            found[number] = "kept to dropped" if one["kept"] else "dropped to kept"
        elif one["kept"]:
            if one["tags"] != other["tags"]:
                found[number] = "other tags"
        elif _reasons(one) != _reasons(other):
            found[number] = "other reasons"
    return found


def _reasons(verdict: dict[str, Any]) -> list[Any]:
    return verdict["unreadable"] or [
        reason for rule in verdict["rules"] for reason in rule["reasons"]
    ]


@given(a=specs, b=specs, lines=st.lists(st.sampled_from(ROWS), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_the_same_as_asking_both_about_each_row(
    a: FilterSpec, b: FilterSpec, lines: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_bytes(b"\n".join(lines) + b"\n")
        changes: list[Change] = []
        found = diff(a, b, [file], on_change=changes.append, examples=2)
    expected = slowly(a, b, lines)
    assert {change.line: change.kind for change in changes} == expected
    assert [change.line for change in changes] == sorted(expected)
    assert found.changes == Counter(expected.values())
    assert found.equal == (not expected)
    for kind, shown in found.examples.items():
        assert shown == [change for change in changes if change.kind == kind][:2]
    for change in changes:
        if lines[change.line - 1].startswith(b"{"):
            assert change.row == lines[change.line - 1].decode()
        assert change.rules["a"] or change.rules["b"]
        record = json.loads(change.to_json_line())
        assert (record["line"], record["change"]) == (change.line, change.kind)


def test_shards_are_joined_each_by_itself(tmp_path: Path) -> None:
    lines = [f'{{"completion": "{number}"}}\n'.encode() for number in range(20_000)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[:15_000]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[15_000:]), 1))
    changes: list[Change] = []
    found = diff(
        FilterSpec(rules=(NumbersRule(name="n", max_value=14_989),)),
        FilterSpec(rules=(NumbersRule(name="n", max_value=15_009),)),
        [tmp_path],
        jobs=2,
        on_change=changes.append,
    )
    assert (found.rows, found.kept) == (20_000, {"a": 14_990, "b": 15_010})
    assert found.changes == {"dropped to kept": 20}
    assert found.rules["dropped to kept"] == {"a": {"n": 20}, "b": {}}
    assert [(change.file.name, change.line) for change in changes] == [
        *(("a.jsonl", line) for line in range(14_991, 15_001)),
        *(("b.jsonl.gz", line) for line in range(1, 11)),
    ]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "a.jsonl").write_bytes(b'{"completion": "1"}\n')
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"cut off" * 99)[:-9])
    numbers = FilterSpec(rules=(NumbersRule(name="n"),))
    assert diff(numbers, numbers, [tmp_path / "a.jsonl"]).equal
    with pytest.raises(InputError, match=r"cannot read .*b\.jsonl\.gz"):
        diff(numbers, numbers, [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"])
    assert list((tmp_path / "tmp").iterdir()) == []
