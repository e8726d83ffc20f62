"""A row is the same however one comes to it: through Polars, through Python, through the filter."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, NumberRule, expression, run
from subl.shards import frame, keep, read_lines, scan
from subl.shards.convert import ConvertSpec, convert
from subl.shards.frame import kinds_of
from subl.shards.manifest import inspect


def lines(*rows: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def rows_of(found: pl.DataFrame) -> list[dict[str, Any]]:
    """As objects; what is missing is null."""
    texts = {name for name, dtype in found.schema.items() if isinstance(dtype, pl.BaseExtension)}
    plain = found.with_columns(pl.col(name).ext.storage() for name in texts)
    return [
        {
            name: json.loads(value) if name in texts and value is not None else value
            for name, value in row.items()
        }
        for row in plain.to_dicts()
    ]


PACKINGS = {
    "a.jsonl": bytes,
    "a.jsonl.gz": gzip.compress,
    "a.jsonl.zst": zstandard.compress,
}

texts = st.text(max_size=6) | st.sampled_from(["\x00", "🦉", '"', "\\", "\n"])
numbers = st.integers(-5, 5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | texts | numbers
values = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(texts, each, max_size=3)
)
regular = st.fixed_dictionaries(
    {"id": texts, "n": st.integers(-(2**63), 2**63 - 1)},
    optional={
        "x": st.floats(allow_nan=False, allow_infinity=False),
        "is": st.booleans() | st.none(),
        "v": st.lists(st.integers(-9, 9) | st.floats(0, 1), max_size=3),
        "messages": st.lists(st.fixed_dictionaries({"role": texts, "content": texts | st.none()})),
    },
)
tables = st.lists(regular, max_size=6) | st.lists(
    st.dictionaries(texts.filter(lambda name: name not in ("shard", "row")), values, max_size=4),
    max_size=6,
)


@settings(max_examples=80)
@given(
    name=st.sampled_from(sorted(PACKINGS)),
    rows=tables,
    more=tables,
    ascii=st.booleans(),
    space=st.sampled_from(["", " ", "\n", "\r\n"]),
)
def test_rows_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    rows: list[dict[str, Any]],
    more: list[dict[str, Any]],
    ascii: bool,
    space: str,
) -> None:
    folder = tmp_path_factory.mktemp("data")
    for shard, part in ((name, rows), ("b.jsonl", more)):
        written = [json.dumps(row, ensure_ascii=ascii) + space + "\n" for row in part]
        (folder / shard).write_bytes(PACKINGS.get(shard, bytes)("".join(written).encode()))
    found = scan(folder).collect()
    expected = [json.loads(line.content) for line in read_lines([folder])]
    assert expected == rows + more
    columns = found.columns[2:]
    assert set(columns) == {key for row in expected for key in row}
    assert rows_of(found.drop("shard", "row")) == [
        {key: row.get(key) for key in columns} for row in expected
    ]
    places = [line.place for line in read_lines([folder])]
    assert [f"{file}, line {line}" for file, line in found.select("shard", "row").iter_rows()] == (
        places
    )


ODD = {
    "duplicate keys": b'{"a": "first", "a": "last"}',
    "a surrogate pair": b'{"a": "\\ud83e\\udd89"}',
    "large": b'{"a": 123456789012345678901234567890}',
    "spelled": b'{"a": 1.50}',
    "an exponent": b'{"a": 1e-5}',
    "integers among floats": b'{"a": 1}\n{"a": 0.5}',
    "large integers among floats": b'{"a": 9007199254740993}\n{"a": 0.5}',
    "negative nothing": b'{"a": -0}',
    "infinite": b'{"a": 1e999}',
    "beside an infinite one": b'{"a": "x", "b": 1e999}',
    "beside a long one": b'{"a": "x", "b": [' + b"1" * 4000 + b"]}",
    "mixed": b'{"a": 1}\n{"a": "1"}',
    "keys that differ": b'{"a": {"b": 1}}\n{"a": {"c": 1}}',
    "nothing within": b'{"a": {}}',
    "blanks around": b' {"a" : [ 1.50 , { "b":\t null } ] , "b":1 } ',
}


@pytest.mark.parametrize("name", ODD)
def test_what_polars_would_change_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(ODD[name] + b"\n")
    found = rows_of(scan(tmp_path, shard=None, row=None).collect())
    assert [each["a"] for each in found] == [
        json.loads(line)["a"] for line in ODD[name].split(b"\n")
    ]


UNREADABLE = {
    "no JSON": (b"nope", "not JSON: Expecting value at character 1"),
    "no object": (b"[1]", "expected a JSON object, got list"),
    "no text": (b'{"a": "\\ud800"}', "it holds half of a surrogate pair"),
    "no UTF-8": (b'{"a": "\xff"}', "it is not UTF-8 text"),
    "no number": (b'{"a": NaN}', "NaN is no number"),
    "too deep": (b'{"a": ' + b"[" * 128 + b"]" * 128 + b"}", "more than 128 levels"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    line, reason = UNREADABLE[name]
    (tmp_path / "a.jsonl").write_bytes(b'\n{"a": "x"}\n' + line + b"\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 3: ") as raised:
        scan(tmp_path).collect()
    assert reason in str(raised.value)
    spec = FilterSpec(rules=[LiteralRule(name="r", words=["y"], field="a")])
    assert run(spec, [tmp_path], tmp_path / "out").unreadable == 1


def test_the_filter_says_the_same_of_rows_and_of_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jsonl.gz").write_bytes(
        gzip.compress(lines({"id": "1", "n": 3, "m": [{"t": "owl"}]}, {"id": "2", "n": 4.5}))
    )
    (data / "b.jsonl").write_bytes(
        b'{"id": "3", "n": 1e1, "m": [{"t": "owl", "u": 1}]}\n{"id": "4", "n": "3"}\n'
    )
    pl.DataFrame({"id": ["5", "6"], "n": [2, None]}).write_parquet(data / "c.parquet")
    number = NumberRule(name="n", field="n", max=4)
    owls = LiteralRule(name="owls", words=["owl"], field="m[].t")
    for rule in (number, owls):
        spec = FilterSpec(rules=[rule])
        out = tmp_path / rule.name
        run(spec, [data], out)
        kept = [line.value["id"] for line in read_lines([out])]
        assert scan(data).filter(expression(spec)).collect().get_column("id").to_list() == kept


def test_types_of_columns(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jsonl").write_bytes(
        lines(
            {"i": 1, "f": 0.5, "s": "x", "l": [], "o": {"a": None}, "z": None},
            {"i": 2, "f": None, "b": True, "l": ["x"], "o": {"a": 1}},
        )
    )
    (data / "b.jsonl").write_bytes(lines({"i": 3, "b": False}))
    pl.DataFrame({"i": [4], "d": ["2026-01-01"]}, schema_overrides={"i": pl.Int8}).with_columns(
        pl.col("d").str.to_date()
    ).write_parquet(data / "c.parquet")
    found = scan(data, shard=None, row=None)
    assert dict(found.collect_schema()) == {
        "i": pl.Int64(),
        "f": pl.Float64(),
        "s": pl.String(),
        "l": pl.List(pl.String()),
        "o": pl.Struct({"a": pl.Int64()}),
        "z": pl.String(),
        "b": pl.Boolean(),
        "d": pl.Date(),
    }
    assert scan([str(data)]).select("i").collect().equals(found.select("i").collect())
    assert found.select("i").collect().to_series().to_list() == [1, 2, 3, 4]
    # What is a date in one place and a text in another is a text of JSON in both.
    (data / "d.jsonl").write_bytes(lines({"d": "2026-01-02"}))
    assert kinds_of(inspect([data]))["d"] == "json"
    dates = scan(data).select(pl.col("d").ext.storage()).collect().to_series().to_list()
    assert dates == [None, None, None, '"2026-01-01"', '"2026-01-02"']


NOTHING = {
    "lines": lambda file: file.write_bytes(b'{"d": null, "x": 1}\n'),
    "lines of Python": lambda file: file.write_bytes(b'{"d": null, "x": 1, "x": 1}\n'),
    "Parquet": lambda file: pl.DataFrame({"d": [None], "x": [1]}).write_parquet(file),
}


@pytest.mark.parametrize("written", NOTHING)
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (date(2026, 1, 1), pl.Date()),
        ([date(2026, 1, 1)], pl.List(pl.Date())),
        (b"\xff", pl.Binary()),
        ([1], pl.List(pl.Int64())),
        ({"a": 1}, pl.Struct({"a": pl.Int64()})),
    ],
)
def test_a_type_is_that_of_the_shards_that_have_values(
    tmp_path: Path, written: str, value: Any, dtype: pl.DataType
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    NOTHING[written](data / "a.parquet")
    pl.DataFrame({"d": [value]}, {"d": dtype}).write_parquet(data / "b.parquet")
    found = scan(data, shard=None, row=None)
    assert found.collect_schema()["d"] == dtype
    assert found.collect().to_dicts() == [{"d": None, "x": 1}, {"d": value, "x": None}]
    convert(ConvertSpec(to="parquet"), [data], tmp_path / "out")
    made = scan(tmp_path / "out", shard=None, row=None)
    assert made.collect().equals(found.collect())


def test_types_that_differ_by_order_and_width_are_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        lines({"m": [{"r": "x", "n": 1}], "v": [0.5]}) + b'{"m": [], "v": [1], "v": [2]}\n'
    )
    types = {"m": pl.List(pl.Struct({"n": pl.Int8, "r": pl.String})), "v": pl.List(pl.Int32)}
    rows = [{"m": [{"n": 2, "r": "y"}, None], "v": [3, None]}, {"m": None, "v": None}]
    pl.DataFrame(rows, types).write_parquet(tmp_path / "b.parquet")
    found = scan(tmp_path, shard=None, row=None).collect()
    assert dict(found.schema) == {
        "m": pl.List(pl.Struct({"r": pl.String(), "n": pl.Int64()})),
        "v": pl.List(pl.Float64()),
    }
    assert found.to_dicts() == [
        {"m": [{"r": "x", "n": 1}], "v": [0.5]},
        {"m": [], "v": [2.0]},
        {"m": [{"r": "y", "n": 2}, None], "v": [3.0, None]},
        {"m": None, "v": None},
    ]


def test_queries_read_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(*({"id": n, "s": "x" * n} for n in range(1000))))
    monkeypatch.setattr(frame, "_BLOCK_BYTES", 1000)
    keep([tmp_path], tmp_path / "all.manifest.parquet")
    found = scan(tmp_path / "all.manifest.parquet")
    blocks = 0
    read = pl.read_ndjson

    def counted(source: bytes, **how: Any) -> pl.DataFrame:
        nonlocal blocks
        blocks += 1
        assert list(how["schema"]) == ["id"]
        return read(source, **how)

    monkeypatch.setattr(pl, "read_ndjson", counted)
    assert found.select("id").head(10).collect().to_series().to_list() == list(range(10))
    assert 0 < blocks < 20
    assert found.filter(pl.col("id") > 997).select("row").collect().to_series().to_list() == (
        [999, 1000]
    )


def test_a_name_that_is_taken_and_a_shard_that_changed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines({"row": 1}))
    with pytest.raises(InputError, match="there is a column `row` in the data"):
        scan(tmp_path)
    assert scan(tmp_path, row="line").collect().to_dicts() == [
        {"shard": str(tmp_path / "a.jsonl"), "line": 1, "row": 1}
    ]
    found = scan(tmp_path, row=None)
    os.utime(tmp_path / "a.jsonl", (1, 1))
    with pytest.raises(InputError, match=r"a\.jsonl has changed since its manifest was made"):
        found.collect()


def test_a_shard_that_is_cut_is_named(tmp_path: Path) -> None:
    packed = io.BytesIO(gzip.compress(lines({"a": 1}) * 1000))
    (tmp_path / "a.jsonl.gz").write_bytes(packed.getvalue()[:-10])
    with pytest.raises(InputError, match=r"cannot read .*a\.jsonl\.gz"):
        scan(tmp_path)
