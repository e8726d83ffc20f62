"""A sample has the rows that were asked for, each as likely as any other, and reads little."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import subl_core

from subl.errors import InputError
from subl.shards import keep, look, read_lines
from subl.shards import sample as module
from subl.shards.bins import bin_files
from subl.shards.sample import SampleSpec, sample, write_sample
from subl.shards.split import SplitSpec, split


def lines(numbers: range) -> bytes:
    return b"".join(json.dumps({"id": n, "text": "x" * 100}).encode() + b"\n" for n in numbers)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(look, "_MARK_BYTES", 2048)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"\n" + lines(range(500)))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(range(500, 600)) + b"\n"))
    frame = pl.read_ndjson(lines(range(600, 1000)))
    frame.write_parquet(folder / "c.parquet", row_group_size=100)
    return folder


def ids(rows: Any) -> list[int]:
    return [json.loads(row)["id"] for row in rows]


@pytest.mark.parametrize("count", [1, 10, 999, 1000])
def test_exactly_so_many_rows_the_same_for_a_seed(data: Path, tmp_path: Path, count: int) -> None:
    found = ids(sample(SampleSpec(rows=count), [data]))
    assert len(set(found)) == count and found == sorted(found)
    manifest = tmp_path / "all.manifest.parquet"
    keep([data], manifest)
    assert ids(sample(SampleSpec(rows=count), [manifest])) == found
    split(SplitSpec(bins=7, cut=True), [manifest], tmp_path / "bins")
    bins = bin_files(tmp_path / "bins")
    assert len(set(ids(sample(SampleSpec(rows=count), bins)))) == count
    if 1 < count < 1000:
        assert ids(sample(SampleSpec(rows=count, seed=1), [data])) != found


def test_every_row_is_as_likely(data: Path) -> None:
    drawn = Counter(
        each for seed in range(60) for each in ids(sample(SampleSpec(rows=50, seed=seed), [data]))
    )
    parts: Counter[int] = Counter()
    for each, times in drawn.items():
        parts[each // 200] += times
    # 3,000 draws, 600 in each fifth: five standard deviations are 110.
    assert all(abs(parts[part] - 600) < 110 for part in range(5))
    assert max(drawn.values()) < 15


def test_rows_are_as_they_are_written(data: Path) -> None:
    whole = [line.content for line in read_lines([data])]
    assert list(sample(SampleSpec(rows=1000), [data])) == whole


def test_little_is_read(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "all.manifest.parquet"
    (data / "b.jsonl.gz").unlink()
    keep([data], manifest)
    taken = 0
    take = subl_core.take_parquet_rows

    def counted(*arguments: Any) -> int:
        nonlocal taken
        taken += take(*arguments)
        return taken

    monkeypatch.setattr(subl_core, "take_parquet_rows", counted)
    monkeypatch.setattr(subl_core, "count_rows", None)  # nobody counts
    read: list[int] = []
    rows_of = module.row_lines

    def seen(*arguments: Any) -> Any:
        for each in rows_of(*arguments):
            read.append(each[0])
            yield each

    monkeypatch.setattr(module, "row_lines", seen)
    assert len(ids(sample(SampleSpec(rows=4, seed=3), [manifest]))) == 4
    assert len(read) < 4 * 30
    assert taken < (data / "c.parquet").stat().st_size


def test_an_artifact_of_a_sample(data: Path, tmp_path: Path) -> None:
    made = write_sample(SampleSpec(rows=10), [data], tmp_path / "out")
    assert made.result["rows"] == 10
    assert [line.content for line in read_lines([tmp_path / "out"])] == (
        list(sample(SampleSpec(rows=10), [data]))
    )
    assert write_sample(SampleSpec(rows=10), [data], tmp_path / "out").reused


def test_too_many_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="1,001 rows are to be drawn, and there are 1,000"):
        list(sample(SampleSpec(rows=1001), [data]))
