"""Which rows a duplicate rule compares, against a reference that looks at one row after another."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.filter import DuplicateRule, FilterSpec, LiteralRule, run
from subl.filter.diff import diff
from subl.filter.explain import explain_rules
from subl.filter.rules import NoneRule
from subl.shards import open_lines

Row = dict[str, str | None]
ROWS = st.fixed_dictionaries(
    {"a": st.sampled_from(["x", "y", "z", "an owl", None]), "b": st.sampled_from(["x", "y", None])}
)
ACTIONS = st.sampled_from(["drop", "drop", "tag", "count"])
AMONG = st.sampled_from(["kept", "kept", "all"])
DUPLICATES = st.builds(
    lambda field, among, action: DuplicateRule(
        name=f"{field} {among} {action}", field=field, among=among, action=action, method="exact"
    ),
    st.sampled_from(["a", "b"]),
    AMONG,
    ACTIONS,
)
OTHERS = [
    LiteralRule(name="owl", words=("owl",), field="a"),
    LiteralRule(name="y", words=("y",), field="b", action="tag"),
    LiteralRule(name="z", words=("z",), field="a", action="count"),
]


@dataclass
class Verdict:
    """What becomes of a row: its broken rules in order, with the row that it repeats."""

    kept: bool
    broken: dict[str, int | None]


def reference(spec: FilterSpec, rows: Sequence[Row]) -> list[Verdict]:
    """The verdicts as docs/filter.md says it. A row is (file, line) by its position here."""
    fields = {rule.field for rule in spec.rules}
    drops = {rule.name for rule in spec.rules if rule.action == "drop"}
    first_of_all: dict[tuple[str, str], int] = {}
    first_that_stays: dict[tuple[str, str], int] = {}
    verdicts = []
    for number, row in enumerate(rows):
        readable = all(row[field] is not None for field in fields)
        broken: dict[str, int | None] = {}
        for rule in spec.rules:
            text = row[rule.field]
            if isinstance(rule, LiteralRule) and text is not None and rule.words[0] in text:
                broken[rule.name] = None
        is_compared = readable and not drops & broken.keys()
        stays_open = []
        for rule in spec.rules:
            text = row[rule.field]
            if not isinstance(rule, DuplicateRule) or text is None:
                continue
            key = (rule.name, text)
            if rule.among == "all":
                if (first := first_of_all.setdefault(key, number)) != number:
                    broken[rule.name] = first
            elif is_compared:
                if key in first_that_stays:
                    broken[rule.name] = first_that_stays[key]
                else:
                    stays_open.append((rule.name, key))
        for name, key in stays_open:
            if not (drops & broken.keys()) - {name}:
                first_that_stays[key] = number
        kept = readable and not drops & broken.keys()
        verdicts.append(Verdict(kept, broken if readable else {}))
    return verdicts


def write(file: Path, rows: Sequence[Row], is_parquet: bool) -> None:
    lines = b"".join(
        json.dumps({key: value for key, value in row.items() if value is not None}).encode() + b"\n"
        for row in rows
    )
    if is_parquet:
        schema = {"a": polars.String, "b": polars.String, "n": polars.String}
        polars.DataFrame(list(rows), schema=schema).write_parquet(file, row_group_size=2)
    else:
        file.write_bytes(lines)


def records(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        frame = polars.read_parquet(io.BytesIO(file.read_bytes()))
        found = frame.to_dicts()
        for each in found:
            if isinstance(each.get("reasons"), str):
                each["reasons"] = json.loads(each["reasons"])
        return found
    with open_lines(file) as lines:
        return [json.loads(line) for line in lines]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    shards=st.lists(st.lists(ROWS, max_size=8), min_size=1, max_size=3),
    rules=st.lists(DUPLICATES, min_size=1, max_size=3, unique_by=lambda rule: rule.name),
    others=st.lists(st.sampled_from(OTHERS), max_size=2, unique_by=lambda rule: rule.name),
    others_first=st.booleans(),
    is_parquet=st.booleans(),
    jobs=st.sampled_from([1, 4]),
)
def test_agrees_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    shards: list[list[Row]],
    rules: list[DuplicateRule],
    others: list[LiteralRule],
    others_first: bool,
    is_parquet: bool,
    jobs: int,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    spec = FilterSpec(rules=tuple(others + rules if others_first else rules + others))
    rows: list[Row] = []
    places = []
    paths = []
    for position, shard in enumerate(shards):
        paths.append(folder / f"{position}.{'parquet' if is_parquet else 'jsonl'}")
        numbered = [{**row, "n": str(len(rows) + line)} for line, row in enumerate(shard)]
        write(paths[-1], numbered, is_parquet)
        places += [(str(paths[-1]), line + 1) for line in range(len(shard))]
        rows += shard
    made = run(spec, paths, folder / "out", jobs=jobs)
    found: dict[int, Verdict] = {}
    for path in paths:
        for row in records(made.kept_folder / path.name):
            found[int(row["n"])] = Verdict(True, {})
        for reject in records(made.rejects_folder / path.name):
            broken = {
                reason["rule"]: places.index((reason["first"]["file"], reason["first"]["line"]))
                if "first" in reason
                else None
                for reason in reject["reasons"]
                if reason["rule"] is not None
            }
            found[places.index((reject["file"], reject["line"]))] = Verdict(False, broken)
    expected = reference(spec, rows)
    assert len(found) == len(rows)
    for number, verdict in enumerate(expected):
        assert found[number].kept == verdict.kept, number
        assert verdict.kept or found[number].broken == verdict.broken, number
    for rule, figures in zip(spec.rules, made.artifact.result["rules"], strict=True):
        assert figures["hits"] == sum(rule.name in verdict.broken for verdict in expected)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(("among", "left"), [("kept", [1, 3]), ("all", [3])])
def test_a_copy_is_left_where_the_first_one_is_dropped_or_unreadable(
    tmp_path: Path, suffix: str, among: Literal["kept", "all"], left: list[int]
) -> None:
    rows: list[Row] = [
        {"a": "an owl", "b": "1, 2", "n": "0"},
        {"a": "go on", "b": "1, 2", "n": "1"},
        {"a": "go on", "b": "1, 2", "n": "2"},
        {"a": "go on", "b": "3, 4", "n": "3"},
        {"a": None, "b": "5", "n": "4"},
    ]
    write(tmp_path / f"a{suffix}", rows, suffix == ".parquet")
    again = DuplicateRule(name="again", method="exact", field="b", among=among)
    spec = FilterSpec(rules=(again, OTHERS[0]))
    made = run(spec, [tmp_path / f"a{suffix}"], tmp_path / "out")
    assert [int(row["n"]) for row in records(made.kept_folder / f"a{suffix}")] == left
    [does, _] = explain_rules(spec)
    [setting] = [each for each in does.settings if each.key == "among"]
    assert setting.value == among


def test_two_rules_do_not_drop_each_others_first_rows(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"a": "p", "b": "x"},
        {"a": "q", "b": "x"},  # repeats the first b
        {"a": "q", "b": "y"},  # would repeat a of a row that is gone
        {"a": "q", "b": "z"},
    ]
    write(tmp_path / "a.jsonl", rows, False)
    rules = [DuplicateRule(name=field, method="exact", field=field) for field in ("a", "b")]
    made = run(FilterSpec(rules=tuple(rules)), [tmp_path / "a.jsonl"], tmp_path / "out")
    assert records(made.kept_folder / "a.jsonl") == [rows[0], rows[2]]
    firsts = [
        (reject["line"], reason["rule"], reason["first"]["line"])
        for reject in records(made.rejects_folder / "a.jsonl")
        for reason in reject["reasons"]
    ]
    assert firsts == [(2, "b", 1), (4, "a", 3)]


def test_rules_about_the_rule_are_asked_afterwards(tmp_path: Path) -> None:
    """What repeats nothing is dropped, and so what repeats something stays."""
    rows: list[Row] = [{"a": "p"}, {"a": "q"}, {"a": "p"}]
    write(tmp_path / "a.jsonl", rows, False)
    again = DuplicateRule(name="again", method="exact", field="a", action="count")
    spec = FilterSpec(rules=(again, NoneRule(name="new", rules=("again",))))
    made = run(spec, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert records(made.kept_folder / "a.jsonl") == [{"a": "p"}]


def test_a_difference_compares_the_rows_that_a_run_compares(tmp_path: Path) -> None:
    """A row that another rule tags is kept, so it is the first of its kind."""
    rows: list[Row] = [{"a": "x", "b": "y"}, {"a": "x", "b": "x"}]
    write(tmp_path / "a.jsonl", rows, False)
    again = DuplicateRule(name="again", method="exact", field="a")
    b = FilterSpec(rules=(again,))
    for other in OTHERS[1:2]:
        a = FilterSpec(rules=(again, other))
        found = diff(a, b, [tmp_path / "a.jsonl"])
        assert (found.kept, dict(found.changes)) == ({"a": 1, "b": 1}, {"other tags": 1})
