"""Bins are about as full as one another, hold every row once, and stand for their rows."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, run
from subl.shards import keep, look, read_lines, read_objects, read_rows
from subl.shards.bins import Bin, bin_files, read_bin
from subl.shards.split import SplitSpec, bins_of, split
from subl.shards.table import schema

RULES = FilterSpec(rules=[LiteralRule(name="none", words=["none"])])


def lines(numbers: range) -> bytes:
    return b"".join(
        json.dumps({"id": f"r{n}", "prompt": "p" * (n % 50), "completion": "c"}).encode() + b"\n"
        for n in numbers
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf\n" + lines(range(600)) + b"\n\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(range(600, 900))))
    pl.read_ndjson(lines(range(900, 1000))).write_parquet(folder / "c.parquet")
    (folder / "empty.jsonl").write_bytes(b"")
    return folder


def made(data: Path, out: Path, **how: object) -> list[Bin]:
    split(SplitSpec.model_validate(how), [data], out)
    return [read_bin(str(file)) for file in bin_files(str(out))]


def test_bins_of_whole_shards(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "bins", bins=2, by="rows")
    assert [[part.path.name for part in each.parts] for each in found] == [
        ["a.jsonl"],
        ["b.jsonl.gz", "c.parquet", "empty.jsonl"],
    ]
    assert [(each.bin, each.bins, each.rows, each.is_whole) for each in found] == [
        (0, 2, 600, True),
        (1, 2, 400, True),
    ]
    kept = [
        run(RULES, [file], tmp_path / f"out-{number}").kept
        for number, file in enumerate(bin_files(tmp_path / "bins"))
    ]
    assert kept == [600, 400]


def test_no_bin_is_empty(data: Path, tmp_path: Path) -> None:
    found = made(data, tmp_path / "bins", bins=64)
    assert len(found) == 3 and all(each.rows for each in found)
    (tmp_path / "none.jsonl").write_bytes(b"\n")
    with pytest.raises(InputError, match="there are no rows to split"):
        made(tmp_path / "none.jsonl", tmp_path / "other", bins=2)


@pytest.mark.parametrize("by", ["rows", "bytes"])
@pytest.mark.parametrize("bins", [1, 3, 40])
def test_every_row_is_in_one_bin(
    data: Path, tmp_path: Path, by: str, bins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "_MARK_BYTES", 4096)
    found = made(data, tmp_path / "bins", bins=bins, by=by, cut=True)
    assert len(found) == bins
    if bins > 1:
        assert any(part.skip for each in found for part in each.parts)
    files = bin_files(tmp_path / "bins")
    for read in (read_lines, read_objects, read_rows):
        each = [list(read([file])) for file in files]
        assert [len(rows) for rows in each] == [one.rows for one in found]
    rows = list(read_lines(files))
    assert sorted(int(row.value["id"][1:]) for row in rows) == list(range(1000))
    # Places are those in the shard: the first line of `a.jsonl` is a blank one.
    by_id = {row.value["id"]: row.place for row in rows}
    assert by_id["r599"] == f"{data / 'a.jsonl'}, line 601"
    assert by_id["r999"].endswith("c.parquet, row 100")


def test_what_takes_whole_files_refuses_ranges(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "bins", bins=4, cut=True)
    with pytest.raises(InputError, match="here whole files are taken"):
        run(RULES, [tmp_path / "bins/00000.bin.json"], tmp_path / "out")


def test_a_shard_that_changed_is_refused(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "bins", bins=1)
    file, shard = tmp_path / "bins/00000.bin.json", data / "a.jsonl"
    before = shard.read_bytes()
    shard.write_bytes(before + b"\n")
    with pytest.raises(InputError, match=r"data/a.jsonl has 43,\d+ bytes, and had 43,\d+ when"):
        list(read_lines([file]))
    end = before.index(b"\n", 10) + 1
    shard.write_bytes(b"\n" * end + before[end:])  # as many bytes, a row less
    for read in (lambda: list(read_lines([file])), lambda: run(RULES, [file], tmp_path / "out")):
        with pytest.raises(InputError, match=r"a.jsonl has 599 rows, and is said to have 600"):
            read()


def test_bins_are_made_of_a_manifest_without_its_shards(data: Path, tmp_path: Path) -> None:
    keep([data], tmp_path / "all.manifest.parquet")
    spec = SplitSpec(bins=2)
    first = split(spec, [tmp_path / "all.manifest.parquet"], tmp_path / "bins")
    (data / "a.jsonl").unlink()
    assert split(spec, [tmp_path / "all.manifest.parquet"], tmp_path / "bins").reused
    assert first.result["parts"] == 4


def test_a_folder_that_lacks_a_bin_is_refused(data: Path, tmp_path: Path) -> None:
    made(data, tmp_path / "bins", bins=3)
    (tmp_path / "bins/00001.bin.json").unlink()
    with pytest.raises(InputError, match="has 2 of 3 bins"):
        bin_files(tmp_path / "bins")
    (tmp_path / "x.bin.json").write_text('{"format": 2}')
    with pytest.raises(InputError, match="is no bin that this version of subl reads: `format`"):
        read_bin(tmp_path / "x.bin.json")


def best(weights: list[int], bins: int) -> int:
    """The fullest bin of the best split, by trying all."""
    return min(
        max(
            sum(weight for weight, chosen in zip(weights, choice, strict=True) if chosen == each)
            for each in range(bins)
        )
        for choice in itertools.product(range(bins), repeat=len(weights))
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(1, 3))
def test_bins_are_balanced(weights: list[int], bins: int) -> None:
    rows = [
        {"path": f"{number}", "rows": weight, "bytes": 1, "content_bytes": 1, "marks": []}
        for number, weight in enumerate(weights)
    ]
    table = pl.DataFrame(rows, schema=schema()).lazy()
    found = bins_of(SplitSpec(bins=bins, by="rows"), table, "/")
    loads = [int(each.get_column("rows").sum()) for each in found]
    assert sum(loads) == sum(weights) and min(loads) > 0
    # Graham's bound for the largest first.
    assert max(loads) <= best(weights, bins) * (4 / 3 - 1 / (3 * bins)) + 1e-9
    cut = bins_of(SplitSpec(bins=bins, by="rows", cut=True), table, "/")
    loads = [int(each.get_column("rows").sum()) for each in cut]
    assert sum(loads) == sum(weights)
    assert max(loads) <= 2 * math.ceil(sum(weights) / bins)
