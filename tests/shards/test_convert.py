"""Rows come back from every format as they were: every key, and numbers as they were spelled."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, run
from subl.shards import convert as module
from subl.shards import keep, open_lines, read_lines, scan
from subl.shards.convert import ConvertSpec, MergeSpec, convert, planned
from subl.shards.manifest import inspect


class Number(str):
    """As it is spelled."""


def read(line: bytes | str) -> Any:
    return json.loads(line, parse_float=Number, parse_int=Number)


def read_all(path: Path) -> list[Any]:
    return [read(line.content) for line in read_lines([path])]


texts = st.text(max_size=5) | st.sampled_from(["\x00", "🦉", '"', "\\", "\n", "null", "shard"])
spelled = st.sampled_from(["1.50", "1e5", "1E-7", "-0", "0.10", "12345678901234567890", "1e999"])
numbers = st.integers(-3, 3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | texts | numbers | spelled.map(Number)
values = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(texts, each, max_size=3)
)
regular = st.fixed_dictionaries(
    {"id": texts},
    optional={
        "n": st.integers(-(2**63), 2**63 - 1) | st.none(),
        "x": st.floats(0, 1),
        "always": st.none(),
        "v": st.lists(st.integers(-9, 9) | st.floats(0, 1), max_size=3),
        "m": st.lists(st.fixed_dictionaries({"r": texts, "c": texts | st.none()}), max_size=2),
    },
)
tables = st.lists(regular, max_size=5) | st.lists(
    st.dictionaries(texts, values, max_size=4), max_size=5
)


def written(value: Any, ascii: bool) -> str:
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)}: {written(each, ascii)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(written(each, ascii) for each in value)}]"
    return json.dumps(value, ensure_ascii=ascii)


def remade(file: Path, to: Any, *sources: Path) -> Path:
    """A file of the same rows."""
    shards = inspect(sources).collect()
    module._make(file, to, shards, module._columns([shards]))
    return file


@settings(max_examples=60, deadline=None)
@given(rows=tables, more=tables, ascii=st.booleans(), back=st.sampled_from(["jsonl", "jsonl.zst"]))
def test_rows_come_back_from_parquet(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    more: list[dict[str, Any]],
    ascii: bool,
    back: Any,
) -> None:
    folder = tmp_path_factory.mktemp("data")
    lines = [folder / "a.jsonl", folder / "b.jsonl"]
    for file, part in zip(lines, (rows, more), strict=True):
        with file.open("w", encoding="utf-8") as target:
            target.writelines(f"{written(row, ascii)}\n" for row in [*part, {"id": None, "n": 1}])
    expected = [read(line.content) for line in read_lines(lines)]
    each = [remade(file.with_suffix(".parquet"), "parquet", file) for file in lines]
    merged = remade(folder / "merged.parquet", "parquet", *each)
    mixed = remade(folder / "mixed.parquet", "parquet", lines[0], each[1])
    for made in (merged, mixed):
        assert read_all(remade(made.with_suffix(f".{back}"), back, made)) == expected


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(tables, min_size=1, max_size=4), most=st.none() | st.integers(1, 6))
def test_all_files_have_one_schema_and_every_row_comes_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[dict[str, Any]]], most: int | None
) -> None:
    folder = tmp_path_factory.mktemp("data")
    data, tables, back = (folder / name for name in ("data", "tables", "back"))
    data.mkdir()
    for number, rows in enumerate([*parts, [{"id": None}]]):
        lines = "".join(f"{written(row, False)}\n" for row in rows)
        (data / f"{number}.jsonl").write_text(lines, encoding="utf-8")
    spec = ConvertSpec(to="parquet") if most is None else MergeSpec(to="parquet", rows=most)
    convert(spec, [data], tables)
    first, *others = [pl.read_parquet_schema(file) for file in tables.glob("*.parquet")]
    assert all(other == first for other in others)
    convert(ConvertSpec(to="jsonl"), [tables], back)
    assert read_all(back) == read_all(data)
    convert(MergeSpec(to="parquet"), [tables], folder / "one")
    convert(ConvertSpec(to="jsonl"), [folder / "one"], folder / "lines")
    assert read_all(folder / "lines") == read_all(data)


def test_shards_of_several_types_become_files_of_one(tmp_path: Path) -> None:
    """Other libraries take such a folder for one table."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    rows = ['{"score": null, "n": 1, "x": null}', '{"score": 0.5, "n": 0.5, "x": null}', "{}"]
    for number, row in enumerate(rows):
        (data / f"{number}.jsonl").write_text(f"{row}\n")
    (data / "3.jsonl").write_text("")
    convert(ConvertSpec(to="parquet"), [data], out)
    found = pl.read_parquet(out / "*.parquet")
    assert found.schema["score"] == pl.Float64 and found.schema["x"] == pl.Null
    assert found["score"].to_list() == [None, 0.5, None]
    assert found["n"].ext.storage().to_list() == ["1", "0.5", None]
    assert scan(out).select("score").collect().equals(scan(data).select("score").collect())
    import pyarrow.dataset

    assert pyarrow.dataset.dataset(sorted(out.glob("*.parquet"))).to_table().num_rows == 3


def test_rows_without_any_key_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n")
    with pytest.raises(InputError, match=r"a\.jsonl has rows without any key"):
        convert(ConvertSpec(to="parquet"), [tmp_path / "a.jsonl"], tmp_path / "out")
    (tmp_path / "b.jsonl").write_bytes(b'{"a": "\\ud800"}\n')
    with pytest.raises(InputError, match=r"b\.jsonl, line 1: it holds half of a surrogate pair"):
        convert(ConvertSpec(to="parquet"), [tmp_path / "b.jsonl"], tmp_path / "out")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    line = '{"id": "%d", "text" : "\\u00e4", "n": 1.0}\n'
    for name, numbers in (("a.jsonl", range(10)), ("b.jsonl.gz", range(10, 15))):
        content = "".join(line % number for number in numbers).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (folder / "c.jsonl.zst").write_bytes(
        zstandard.compress(b'\xef\xbb\xbf\n{"id": "15"}\r\n \n{"id": "16"}')
    )
    return folder


@pytest.mark.parametrize("to", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_lines_stay_as_they_are(data: Path, tmp_path: Path, to: Any) -> None:
    convert(ConvertSpec(to=to), [data], tmp_path / "out")
    names = [f"{name}.{to}" for name in "abc"]
    assert sorted(file.name for file in (tmp_path / "out").glob("*.jsonl*")) == names
    found = []
    for name in names:
        with open_lines(tmp_path / "out" / name) as lines:
            found.append(lines.read())
    assert found[0] == (data / "a.jsonl").read_bytes()
    assert found[1] == gzip.decompress((data / "b.jsonl.gz").read_bytes())
    assert found[2] == b'{"id": "15"}\r\n{"id": "16"}\n'


def test_small_files_become_large_ones(data: Path, tmp_path: Path) -> None:
    made = convert(MergeSpec(to="parquet", rows=15), [data], tmp_path / "out")
    assert made.result == {
        "rows": 17,
        "shards": ["part-00000.parquet", "part-00001.parquet"],
        "to": "parquet",
    }
    counts = [pl.read_parquet(tmp_path / "out" / name).height for name in made.result["shards"]]
    assert counts == [15, 2]
    size = (data / "a.jsonl").stat().st_size
    sizes = [
        len(planned(MergeSpec(to="jsonl", bytes=size + more), inspect([data])))
        for more in (-1, 0, 10**6)
    ]
    assert sizes == [2, 2, 1]
    assert [row["id"] for row in read_all(tmp_path / "out")] == [f"{n}" for n in range(17)]


def test_types_and_what_rules_say(data: Path, tmp_path: Path) -> None:
    (data / "d.jsonl").write_bytes(b'{"id": "17", "n": "owl"}\n{"id": "18", "text": "owl"}\n')
    convert(MergeSpec(to="parquet"), [data], tmp_path / "out")
    schema = pl.read_parquet_schema(tmp_path / "out/part-00000.parquet")
    assert schema["id"] == pl.String and schema["text"] == pl.String
    assert isinstance(schema["n"], pl.BaseExtension)
    spec = FilterSpec(rules=[LiteralRule(name="owls", words=["owl"], field="n")])
    runs = [run(spec, [path], tmp_path / f"f-{path.name}") for path in (data, tmp_path / "out")]
    assert [(each.rows_in, each.kept, each.unreadable) for each in runs] == [(19, 0, 18)] * 2


def test_parquet_keeps_types_that_json_does_not_have(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "d": pl.Series([None, "2026-01-01"], dtype=pl.String).str.to_date(),
            "f": pl.Series([0.1, None], dtype=pl.Float32),
            "u": pl.Series([2**64 - 1, 0], dtype=pl.UInt64),
            "b": [b"\xff", None],
            "l": [[1, None], []],
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    convert(MergeSpec(to="parquet"), [tmp_path / "a.parquet"], tmp_path / "out")
    found = pl.read_parquet(tmp_path / "out/part-00000.parquet")
    assert found.equals(frame) and found.schema == frame.schema
    convert(ConvertSpec(to="jsonl"), [tmp_path / "a.parquet"], tmp_path / "lines")
    with open_lines(tmp_path / "a.parquet") as lines:
        assert lines.read() == (tmp_path / "lines/a.jsonl").read_bytes()


def test_rows_that_cannot_be_read_are_named_where_they_have_to_be(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\nnope\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: not JSON"):
        convert(ConvertSpec(to="parquet"), [tmp_path / "a.jsonl"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert(ConvertSpec(to="jsonl.gz"), [tmp_path / "a.jsonl"], tmp_path / "gz")
    assert gzip.decompress((tmp_path / "gz/a.jsonl.gz").read_bytes()) == b'{"a": 1}\nnope\n'
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\n"\xff"\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 3: it is not UTF-8"):
        convert(ConvertSpec(to="jsonl.gz"), [tmp_path / "a.jsonl"], tmp_path / "other")


def test_an_interrupted_conversion_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ConvertSpec(to="parquet")
    whole = convert(spec, [data], tmp_path / "whole")
    make, made = module._make, []

    def killed(file: Path, *how: Any) -> None:
        if file.name == "c.parquet" and len(made) < 3:
            made.append("killed")
            (file.parent / ".0.tmp").write_bytes(b"PAR1")
            raise KeyboardInterrupt
        made.append(file.name)
        make(file, *how)

    monkeypatch.setattr(module, "_make", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(spec, [data], tmp_path / "out")
    assert made == ["a.parquet", "b.parquet", "killed"]
    assert convert(spec, [data], tmp_path / "out").digest == whole.digest
    assert made[3:] == ["c.parquet"]
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_files_of_one_name_and_files_that_changed(data: Path, tmp_path: Path) -> None:
    (data / "a.parquet").write_bytes(b"")
    (data / "a.parquet").unlink()
    pl.DataFrame({"id": ["x"]}).write_parquet(data / "a.parquet")
    made = convert(ConvertSpec(to="parquet"), [data], tmp_path / "out")
    assert made.result["shards"] == [
        "0-a.parquet",
        "1-a.parquet",
        "2-b.parquet",
        "3-c.parquet",
    ]
    manifest = tmp_path / "all.manifest.parquet"
    keep([data], manifest)
    (data / "a.jsonl").write_bytes(b"{}\n")
    with pytest.raises(InputError, match=r"a\.jsonl has changed since its manifest was made"):
        convert(ConvertSpec(to="jsonl"), [manifest], tmp_path / "changed")


def test_row_groups_are_no_larger_than_a_thread_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROUP_BYTES", 2000)
    (tmp_path / "a.jsonl").write_text('{"text": "%s"}\n' % ("x" * 88) * 100)
    convert(ConvertSpec(to="parquet"), [tmp_path / "a.jsonl"], tmp_path / "out")
    assert inspect([tmp_path / "out"]).collect().item(0, "rows") == 100
    import pyarrow.parquet

    groups = pyarrow.parquet.ParquetFile(tmp_path / "out/a.parquet").metadata
    assert groups.num_row_groups >= 5
