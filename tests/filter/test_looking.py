"""Explaining, sampling and comparing say of a Parquet file what a run does, whatever its types."""

from __future__ import annotations

import datetime
import json
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

from subl.errors import InputError
from subl.filter import FilterSpec, explain_row, expression, match_batch, run
from subl.filter.diff import Change, diff
from subl.filter.sample import sample

TEXTS = ["an owl", None, "a cat", ""]
DAY, TIME = datetime.date(2020, 1, 2), datetime.time(1, 2, 3)
NOW = datetime.datetime(2020, 1, 2, 3, 4, 5)
STRING = pa.string()
STRUCT = pa.struct({"k": pa.string(), "n": pa.float32()})


def lists(make: Any, item: pa.DataType = STRING) -> pa.Array:
    return pa.array([["an owl"], None, ["a cat", None], []], make(item))


COLUMNS: dict[str, pa.Array] = {
    "string": pa.array(TEXTS),
    "large string": pa.array(TEXTS, pa.large_string()),
    "string view": pa.array(TEXTS, pa.string_view()),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "json": pa.array(['{"k":"an owl"}', None, '"a cat"', "[]"], pa.json_()),
    "binary": pa.array([b"an owl", None, b"\xff", b""]),
    "large binary": pa.array([b"an owl", None, b"\xff", b""], pa.large_binary()),
    "binary view": pa.array([b"an owl", None, b"\xff", b""], pa.binary_view()),
    "fixed binary": pa.array([b"owl", None, b"cat", b"\xff\xff\xff"], pa.binary(3)),
    "null": pa.nulls(4),
    "boolean": pa.array([True, None, False, True]),
    **{str(t): pa.array([1, None, 2, 3], t) for t in (pa.int8(), pa.uint16(), pa.int64())},
    "uint64": pa.array([2**64 - 1, None, 0, 1], pa.uint64()),
    **{
        str(each): pa.array([float("nan"), None, float("-inf"), 1.5], each)
        for each in (pa.float16(), pa.float32(), pa.float64())
    },
    **{
        f"decimal {each.precision}": pa.array([Decimal("1.50"), None, Decimal("-0.05"), 0], each)
        for each in (pa.decimal128(9, 2), pa.decimal128(38, 2), pa.decimal256(76, 2))
    },
    "date32": pa.array([DAY, None, DAY, DAY], pa.date32()),
    "date64": pa.array([DAY, None, DAY, DAY], pa.date64()),
    "time32": pa.array([TIME, None, TIME, TIME], pa.time32("s")),
    "time64": pa.array([TIME, None, TIME, TIME], pa.time64("us")),
    "timestamp": pa.array([NOW, None, NOW, NOW], pa.timestamp("us")),
    "timestamp with a zone": pa.array([NOW, None, NOW, NOW], pa.timestamp("ns", "Asia/Tokyo")),
    "duration": pa.array([datetime.timedelta(1), None, datetime.timedelta(0)] * 4)[:4],
    "list": lists(pa.list_),
    "large list": lists(pa.large_list),
    "list view": lists(pa.list_view),
    "large list view": lists(pa.large_list_view),
    "fixed list": pa.array([["an owl"], None, ["a cat"], [None]], pa.list_(pa.string(), 1)),
    "list of dictionaries": lists(pa.list_, pa.dictionary(pa.int32(), pa.string())),
    "struct": pa.array([{"k": "an owl"}, None, {"k": "a cat", "n": float("inf")}, {}], STRUCT),
    "list of structs": pa.array(
        [[{"k": "an owl"}], None, [{"k": "a cat"}, None], []], pa.list_(STRUCT)
    ),
    "map": pa.array(
        [[("k", "an owl")], None, [("k", "a cat")], []], pa.map_(pa.string(), pa.string())
    ),
    "map of numbers": pa.array(
        [[(1, "an owl")], None, [(2, "a cat")], []], pa.map_(pa.int32(), pa.string())
    ),
    "struct of a map": pa.array(
        [{"m": [("k", "an owl")]}, None, {"m": []}, {}],
        pa.struct({"m": pa.map_(pa.string(), pa.string())}),
    ),
}
"""A column of each type that Parquet can hold."""

PATHS = ("", ".k", "[]", "[].k", "[].value", ".m", ".m.k", "[k=an owl].n", "[key=k].value")


def spec_of(*words: str, path: str) -> FilterSpec:
    rule = {"name": "owl", "kind": "literal", "words": words, "field": path}
    return FilterSpec.model_validate({"rules": [rule]})


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.parametrize("name", COLUMNS)
def test_all_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    order = data.draw(st.permutations(range(4)))
    column = COLUMNS[name].take(pa.array(order)) if "view" not in name else COLUMNS[name]
    table = pa.table({"c": column, "n": pa.array([1.0, float("nan"), float("inf"), None])})
    file = folder / "rows.parquet"
    pq.write_table(table, file, row_group_size=3)
    path = "c" + data.draw(st.sampled_from(PATHS))
    spec = spec_of("owl", path=path)
    result = run(spec, [file], folder / "out")
    rejects = pq.read_table(result.rejects_folder / "rows.parquet", columns=["line", "reasons"])
    lines = rejects["line"].to_pylist()
    expected = [number not in lines for number in (1, 2, 3, 4)]

    verdicts = [explain_row(spec, file, number) for number in (1, 2, 3, 4)]
    assert [verdict["kept"] for verdict in verdicts if verdict] == expected
    said = [
        verdict["unreadable"] or verdict["rules"][0]["reasons"]
        for verdict in verdicts
        if verdict and not verdict["kept"]
    ]
    assert said == [json.loads(each) for each in rejects["reasons"].to_pylist()]
    assert match_batch(spec, table)["kept"].to_list() == expected

    found = sample(spec, [file], 4)
    figures = result.artifact.result
    assert (found.sampled, found.rows) == (4, 4)
    assert (found.dropped_rows, found.unreadable_rows) == (result.rejected, figures["unreadable"])
    assert found.rules[0].hits == figures["rules"][0]["hits"]

    changes: list[Change] = []
    compared = diff(spec, spec_of("cat", path=path), [file], on_change=changes.append)
    assert compared.kept["a"] == result.kept
    for change in changes:
        json.loads(change.to_json_line(), parse_constant=refuse)

    if "view" not in name and name != "decimal 76":  # which Polars does not read
        scanned = pl.scan_parquet(file).select(expression(spec)).collect()
        assert scanned["kept"].to_list() == expected


def test_rows_as_json(tmp_path: Path) -> None:
    """Every row of every type is a line of JSON."""
    table = pa.table(COLUMNS)
    pq.write_table(table, tmp_path / "rows.parquet")
    changes: list[Change] = []
    a, b = spec_of("owl", path="string"), spec_of("cat", path="string")
    diff(a, b, [tmp_path / "rows.parquet"], on_change=changes.append)
    records = [json.loads(each.to_json_line(), parse_constant=refuse) for each in changes]
    first, second = (record["row"] for record in records)
    assert list(first) == list(COLUMNS)
    shown = {
        "string": "an owl",
        "dictionary": "an owl",
        "json": {"k": "an owl"},
        "binary": "616e206f776c",
        "null": None,
        "boolean": True,
        "uint64": 2**64 - 1,
        "halffloat": None,
        "double": None,
        "decimal 38": 1.5,
        "decimal 76": 1.5,
        "date32": "2020-01-02",
        "time64": "01:02:03",
        "timestamp": "2020-01-02T03:04:05",
        "timestamp with a zone": "2020-01-02T03:04:05Z",
        "list view": ["an owl"],
        "struct": {"k": "an owl", "n": None},
        "map": [{"key": "k", "value": "an owl"}],
        "map of numbers": [{"key": 1, "value": "an owl"}],
    }
    assert {name: first[name] for name in shown} == shown
    assert (second["list of structs"], second["double"]) == (
        [{"k": "a cat", "n": None}, None],
        None,
    )


def test_lines_are_explained_as_they_stand(tmp_path: Path) -> None:
    spec = spec_of("owl", path="c")
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"c": "x"}\n\xef\xbb\xbf{"c": "x"}\n \t\n\x0c\n{"c": null}\n'
    )
    verdicts = [explain_row(spec, tmp_path / "a.jsonl", number) for number in range(1, 6)]
    assert verdicts[2] is None
    assert [verdict and verdict["kept"] for verdict in verdicts] == [
        True,
        False,
        None,
        False,
        False,
    ]
    result = run(spec, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert (result.rows_in, result.kept) == (4, 1)
    found = sample(spec, [tmp_path / "a.jsonl"], 10)
    assert (found.sampled, found.dropped_rows) == (4, 3)


def test_a_file_that_a_run_refuses_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"c": ["x"], "filter_tags": ["y"]}), file)
    rule = {"name": "w", "kind": "literal", "words": ["x"], "field": "c", "action": "tag"}
    with pytest.raises(InputError, match="has a column `filter_tags`"):
        explain_row(FilterSpec.model_validate({"rules": [rule]}), file, 1)


def test_a_sample_of_large_row_groups(tmp_path: Path) -> None:
    """Rows are taken out of their row groups as they are."""
    rows = 5000
    table = pa.table(
        {
            "c": pa.array([None if n % 7 == 0 else f"owl {n}" for n in range(rows)]),
            "l": pa.array([[n] * (n % 3) for n in range(rows)]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2000)
    spec = FilterSpec.model_validate(
        {"rules": [{"name": "w", "kind": "regex", "patterns": ["owl .*3$"], "field": "c"}]}
    )
    truth = sum(n % 7 == 0 for n in range(rows))
    whole = sample(spec, [tmp_path / "a.parquet"], rows)
    assert (whole.sampled, whole.unreadable_rows) == (rows, truth)
    part = sample(spec, [tmp_path / "a.parquet"], 600, seed=1)
    assert part.sampled == 600 and part.rows == rows
    assert abs(part.unreadable_rows / 600 - truth / rows) < 0.06
    assert np.isclose(part.bytes, whole.bytes)
