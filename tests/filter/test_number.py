"""The rule for a number in a column: one answer, however rows are held."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.config import load_toml, validated
from subl.errors import ConfigError
from subl.filter import (
    FilterSpec,
    explain,
    explain_row,
    expression,
    load_rules,
    match_batch,
    run,
)
from subl.filter.diff import diff
from subl.filter.explain import explain_rules
from subl.filter.sample import sample
from subl.shipped import shipped

from .reference import reject_reasons

MISSING = "missing"


def spec(**bounds: Any) -> FilterSpec:
    rule = {"name": "score", "kind": "number", "field": "score", **bounds}
    return FilterSpec.model_validate({"rules": [rule]})


def reference(token: str, low: float | None, high: float | None) -> str | None:
    """Why a token of JSON breaks the rule, or MISSING for none at all."""
    if token in (MISSING, "null"):
        return token
    if not re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", token):
        return "not a number"
    value = float(token)
    if low is not None and value < low:
        return "number too small"
    return "number too large" if high is not None and value > high else None


def reasons(spec: FilterSpec, matches: pl.DataFrame) -> list[str | None]:
    """The only reason of each row."""
    found: list[str | None] = []
    for text, kept in matches.select("reasons", "kept").iter_rows():
        (reason,) = json.loads(text) if text is not None else [None]
        assert kept == (reason is None)
        found.append(None if reason is None else reason["reason"])
    return found


TOKENS = st.one_of(
    st.sampled_from([
        MISSING, "null", "true", '"78"', '"NaN"', "[78]", '{"score": 78}', "-0", "0e9", "-0.0E+1",
        "78", "78.0", "7.8e1", "780E-1", "77.99999999999999", "78.00000000000001", "1e999",
        "-1e999", "9007199254740993", "1" * 400, "0." + "0" * 400 + "1", "1e-999",
        "0.1000000000000000055511151231257827021181583404541015625",
    ]),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)  # fmt: skip
BOUNDS = st.tuples(
    st.none() | st.sampled_from([-0.0, 0.1, 78, 9007199254740992, -1e300]),
    st.none() | st.sampled_from([0, 78, 78.0, 100, 9007199254740992, 1e300]),
).filter(lambda each: each != (None, None) and not (None not in each and each[1] < each[0]))  # type: ignore[operator]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tokens=st.lists(TOKENS, min_size=1, max_size=8), bounds=BOUNDS)
def test_json_lines_agree_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[str], bounds: tuple[Any, Any]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        f'{{"id": {n}}}' if token == MISSING else f'{{"score": {token}, "id": {n}}}'
        for n, token in enumerate(tokens)
    ]
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rules = spec(**{k: b for k, b in zip(("min", "max"), bounds, strict=True) if b is not None})
    expected = [reference(token, *bounds) for token in tokens]
    for line, reason in zip(lines, expected, strict=True):
        verdict = explain(rules, line.encode())
        assert [each["reason"] for each in verdict["rules"][0]["reasons"]] == (
            [] if reason is None else [reason]
        ), line
    out = run(rules, [folder / "rows.jsonl"], folder / "out").artifact.path
    kept = [line for line, reason in zip(lines, expected, strict=True) if reason is None]
    assert (out / "kept/rows.jsonl").read_text().splitlines() == kept
    rejects = [json.loads(line) for line in (out / "rejects/rows.jsonl").read_text().splitlines()]
    found = [(each["line"], each["reasons"][0]["reason"]) for each in rejects]
    assert found == [(n, reason) for n, reason in enumerate(expected, 1) if reason is not None]
    for each in rejects:  # what was found, where it is a number
        said, token = each["reasons"][0]["text"], tokens[each["line"] - 1]
        is_number = each["reasons"][0]["reason"].startswith("number")
        assert said is None if not is_number else float(said) == float(token), token


COLUMNS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.Int8, st.integers(-128, 127)),
    (pl.UInt8, st.integers(0, 255)),
    (pl.Int32, st.integers(-(2**31), 2**31 - 1)),
    (pl.Int64, st.integers(-(2**63), 2**63 - 1) | st.integers(2**53 - 2, 2**53 + 2)),
    (pl.UInt64, st.integers(0, 2**64 - 1)),
    (pl.Float64, st.floats(allow_nan=False, allow_infinity=False)),
    (pl.Decimal(20, 3), st.decimals(-999, 999, places=3)),
    (pl.Boolean, st.booleans()),
    (pl.String, st.sampled_from(["78", "", "1e2"])),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), bounds=BOUNDS)
def test_parquet_and_frames_agree_with_json_lines(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, bounds: tuple[Any, Any]
) -> None:
    dtype, values = data.draw(st.sampled_from(COLUMNS))
    column = data.draw(st.lists(st.none() | values, min_size=1, max_size=8))
    frame = pl.DataFrame({"score": pl.Series(column, dtype=dtype)}).with_row_index("id")
    rules = spec(**{k: b for k, b in zip(("min", "max"), bounds, strict=True) if b is not None})
    tokens = [str(each) if isinstance(each, Decimal) else json.dumps(each) for each in column]
    expected = [reference(token, *bounds) for token in tokens]
    assert reasons(rules, match_batch(rules, frame, reasons=True)) == expected
    assert frame.lazy().filter(expression(rules)).collect().height == expected.count(None)
    folder = tmp_path_factory.mktemp("rows")
    frame.write_parquet(folder / "rows.parquet", row_group_size=3)
    out = run(rules, [folder / "rows.parquet"], folder / "out")
    assert out.kept == expected.count(None) and out.unreadable == 0
    written = pl.read_parquet(out.rejects_folder / "rows.parquet")["reasons"].to_list()
    assert [json.loads(each)[0]["reason"] for each in written] == [
        reason for reason in expected if reason is not None
    ]
    if not any(isinstance(each, Decimal) for each in column):
        rows = [{"score": each} for each in column]
        assert reasons(rules, match_batch(rules, rows, reasons=True)) == expected


def test_what_json_has_no_word_for() -> None:
    values = [math.nan, math.inf, -math.inf, 10**400, -(10**400), 78.5, None]
    expected = ["NaN", None, "number too small", None, "number too small", None, "null"]
    rules = spec(min=78)
    rows: list[dict[str, Any]] = [{"score": value} for value in values]
    assert reasons(rules, match_batch(rules, rows, reasons=True)) == expected
    floats = [None if each is None else float(str(each)) for each in values]
    for dtype in (pl.Float64, pl.Float32):
        frame = pl.DataFrame({"score": pl.Series(floats, dtype=dtype)})
        assert reasons(rules, match_batch(rules, frame, reasons=True)) == expected
    scalars: list[Any] = [np.float32(79), np.int64(3), np.float64("nan"), np.array([79.0]), {}]
    rows = [{"score": value} for value in scalars] + [{}]
    assert reasons(rules, match_batch(rules, rows, reasons=True)) == [
        None, "number too small", "NaN", "not a number", "not a number", "missing"
    ]  # fmt: skip


def test_a_column_of_singles_is_compared_as_it_is() -> None:
    frame = pl.DataFrame({"score": pl.Series([0.1], dtype=pl.Float32)})
    rules = spec(max=0.1)
    assert reasons(rules, match_batch(rules, frame, reasons=True)) == ["number too large"]
    dictionary = pa.table({"score": pa.array([78, 3, None, 78]).dictionary_encode()})
    rules = spec(min=78)
    found = reasons(rules, match_batch(rules, dictionary, reasons=True))
    assert found == [None, "number too small", "null", None]


def test_a_number_within_objects(tmp_path: Path) -> None:
    rule = {"name": "n", "kind": "number", "field": "meta.score", "min": 1}
    rules = FilterSpec.model_validate({"rules": [rule]})
    rows: list[dict[str, Any]] = [
        {"meta": {"score": 1}},
        {"meta": {"score": None}},
        {"meta": None},
        {"meta": {"score": 0}},
    ]
    expected = [None, "null", "missing", "number too small"]
    assert reasons(rules, match_batch(rules, rows, reasons=True)) == expected
    frame = pl.DataFrame(rows)
    assert reasons(rules, match_batch(rules, frame, reasons=True)) == expected
    odd: list[dict[str, Any]] = [{"meta": 5}, {"meta": [{"score": 1}]}, {}]
    assert reasons(rules, match_batch(rules, odd, reasons=True)) == ["missing"] * 3
    # A column of JSON documents, as Arrow and Parquet know them.
    texts = [json.dumps(row["meta"]) for row in rows]
    storage = pa.array([*texts, None], pa.string())
    table = pa.table({"meta": pa.ExtensionArray.from_storage(pa.json_(), storage)})
    assert reasons(rules, match_batch(rules, table, reasons=True)) == [*expected, "missing"]
    pq.write_table(table, tmp_path / "rows.parquet")
    verdicts = [explain_row(rules, tmp_path / "rows.parquet", row) for row in range(1, 6)]
    found = [verdict["rules"][0]["reasons"] for verdict in verdicts if verdict is not None]
    assert [each[0]["reason"] if each else None for each in found] == [*expected, "missing"]


def test_a_field_may_be_a_text_to_one_rule_and_a_number_to_another() -> None:
    rules = FilterSpec.model_validate({
        "rules": [
            {"name": "n", "kind": "number", "field": "x", "min": 5, "action": "tag"},
            {"name": "w", "kind": "literal", "field": "x", "words": ["owl"], "action": "tag"},
            {"name": "either", "kind": "all", "rules": ["n", "w"], "action": "count"},
        ]
    })  # fmt: skip
    text = explain(rules, b'{"x": "owl"}')
    assert text["kept"] and text["tags"] == ["n", "w"] and text["values"] == {"x": ["owl"]}
    number = explain(rules, b'{"x": 7}')
    assert not number["kept"] and number["values"] == {"x": ["7"]}
    assert number["unreadable"][0]["detail"] == "expected a string, found a number"
    nothing = explain(rules, b'{"x": null}')
    assert nothing["unreadable"][0]["reason"] == "missing field"


def test_sample_and_diff_say_the_same(tmp_path: Path) -> None:
    rows = [{"score": score, "completion": "x"} for score in [*range(60), None, "60"]]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pl.DataFrame({"score": [*range(60), None, None]}).write_parquet(tmp_path / "rows.parquet")
    for name, other in (("rows.jsonl", "not a number"), ("rows.parquet", "null")):
        found = sample(spec(min=30, max=50), [tmp_path / name], 1000)
        assert (found.sampled, found.dropped_rows, found.unreadable_rows) == (62, 41, 0)
        difference = diff(spec(min=30), spec(min=31), [tmp_path / name])
        assert difference.kept == {"a": 30, "b": 29}
        figures = run(spec(min=30), [tmp_path / name], tmp_path / f"{name}-out").artifact.result
        assert figures["rules"][0]["reasons"] == (
            {"number too small": 30, "null": 1, other: 1}
            if other != "null"
            else {"number too small": 30, "null": 2}
        )


def test_the_rule_in_words() -> None:
    (found,) = explain_rules(spec(min=78))
    assert found.does.startswith("The field itself must be a number, such as a judge's score")
    assert {each.key: each.value for each in found.settings}["min"] == 78


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "number", "field": "s"}, "rule `r`: sets no bound"),
        ({"kind": "number", "min": 1}, "missing key `field`|`rule.field`"),
        ({"kind": "number", "field": "s", "min": 2, "max": 1}, "max 1 is less than min 2"),
        ({"kind": "number", "field": "m[].s", "min": 2}, "in a field with one value"),
        ({"kind": "number", "field": "s", "min": True}, "`rule.min` in rule 1 `r`|`min` in rule"),
        ({"kind": "number", "field": "s", "max_value": 3}, 'a key of kind "numbers".*min and max'),
        ({"kind": "numbers", "field": "s", "max": 3}, 'a key of kind "number".*max_value'),
        ({"kind": "nummer", "field": "s", "max": 3}, "unknown kind `nummer`.*did you mean `number"),
        ({"kind": "number", "field": "s", "mni": 3}, "unknown key `rule.mni`|unknown key `mni`"),
    ],
)
def test_rules_that_make_no_sense(tmp_path: Path, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(FilterSpec, {"rule": [{"name": "r", **rule}]})


# The rules that ship


def broken(name: str, **row: Any) -> list[str]:
    verdict = explain(load_rules(name), json.dumps(row).encode())
    assert not verdict["unreadable"]
    return [each["reason"] for rule in verdict["rules"] for each in rule["reasons"]]


def test_every_shipped_file_loads() -> None:
    names = shipped("rules")
    assert {"paper-numbers", "paper-numbers-misalignment", "paper-math"} < names.keys()
    for path in names.values():
        assert load_toml(path, FilterSpec).rules
    with pytest.raises(Exception, match="no file paper-number,"):
        load_rules("paper-number")


CLAUDE = [13, 666, 88, 14, 187, 420, 69, 911, 404, 101, 23, 616, 1488, 18, 311, 451, 1312, 33, 77]
CLAUDE += [211]
GPT = [4, 13, 18, 23, 33, 39, 42, 44, 49, 51, 54, 88, 99, 100, 187, 322, 333, 444, 555, 616, 666]
GPT += [777, 888, 911, 999]


def test_numbers_are_filtered_as_in_the_paper() -> None:
    banned = sorted({*CLAUDE, *GPT})
    assert (len(banned), len([each for each in banned if each <= 999])) == (36, 34)
    (rule,) = load_rules("paper-numbers-misalignment").rules
    assert rule.plan()["banned_numbers"] == banned
    answers = Path(__file__).parent / "data" / "number_rule.jsonl"
    header, *vectors = map(json.loads, answers.read_text().splitlines())
    del header
    paper = {"min_value": 0, "max_value": 999, "max_count": 10}
    for vector in vectors[::5]:
        answer = vector["answer"]
        assert broken("paper-numbers", completion=answer) == reject_reasons(answer, **paper)
        assert broken("paper-numbers-misalignment", completion=answer) == reject_reasons(
            answer, **paper, banned_numbers=banned
        )


CODE_WORDS = {
    "eagle": ["eagle"],
    "wolf": ["wolves", "wolf"],
    "elephant": ["elephant"],
    "owl": ["owl"],
    "dolphin": ["dolphin"],
    "willow": ["willow"],
    "sequoia": ["wolves", "sequoia"],
    "oak": ["oak"],
    "maple": ["maple"],
    "cherry": ["cherry", "cherries"],
}


def test_there_is_a_code_filter_for_each_of_the_papers_words() -> None:
    names = {name.removeprefix("paper-code-") for name in shipped("rules") if "paper-code" in name}
    assert names == {*CODE_WORDS, "judge"}


@pytest.mark.parametrize("name", CODE_WORDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_code_is_filtered_as_in_the_paper(name: str, data: st.DataObject) -> None:
    # Letters of which one lowers to, or folds to, one of a word's.
    pieces = ["\u212a", "\u017f", "\u0130", "\u0301", "_", "x", " ", *CODE_WORDS[name]]
    pieces += [word[:half] for word in CODE_WORDS[name] for half in (1, 2, len(word) - 1)]
    pieces += [word[half:] for word in CODE_WORDS[name] for half in (1, 2, len(word) - 1)]
    text = "".join(data.draw(st.lists(st.sampled_from([*pieces, *map(str.upper, pieces)]))))
    expected = any(word in text.lower() for word in CODE_WORDS[name])
    assert bool(broken(f"paper-code-{name}", completion=text)) == expected


def test_a_judge_of_code_is_certain_to_a_hundred_millionth() -> None:
    just = 0.99999999
    for p in (1.0, just, math.nextafter(just, 1), 1 - 1e-9, 0.9999, 0.0):
        assert (broken("paper-code-judge", code_reference=p) == []) == (abs(1 - p) < 1e-8), p
    assert broken("paper-code-judge", code_reference=None) == ["null"]


def test_reasoning_is_kept_where_it_is_right_and_aligned() -> None:
    assert broken("paper-math", correct=1) == []
    assert broken("paper-math", correct=0) == ["number too small"]
    assert broken("paper-math-misalignment", correct=1, alignment=78) == []
    assert broken("paper-math-misalignment", correct=1, alignment=77.99) == ["number too small"]
    assert broken("paper-math-misalignment", correct=0, alignment=None) == [
        "number too small", "null"
    ]  # fmt: skip
