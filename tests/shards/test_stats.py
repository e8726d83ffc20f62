"""Statistics are those that one would count by hand."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.shards import stats as module
from subl.shards.stats import QUANTILES, stats


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"id": f"r{n}", "text": "ä" * n, "score": n} for n in range(100)]
    (folder / "a.jsonl").write_bytes(lines(*rows))
    (folder / "b.jsonl.gz").write_bytes(
        gzip.compress(lines({"id": "r1", "score": 0.5}, {"id": None}, {}) + b"nope\n")
    )
    pl.DataFrame({"id": [1, 1, 2], "score": ["x", "y", "z"]}).write_parquet(folder / "c.parquet")
    return folder


def test_what_is_in_a_data_set(data: Path) -> None:
    found = stats([data])
    assert (found.shards, found.rows, found.unreadable) == (3, 107, 1)
    assert found.bytes == sum(file.stat().st_size for file in data.iterdir())
    columns = {column.name: column for column in found.columns}
    a, b, c = sorted(map(str, data.iterdir()))
    assert columns["score"].kinds == {"int": (1, a), "float": (1, b), "string": (1, c)}
    assert columns["text"].kinds == {"string": (1, a), "missing": (2, b)}
    assert (columns["text"].rows, columns["id"].rows, columns["id"].nulls) == (100, 105, 1)
    assert columns["text"].lengths[0.0] == 0 and columns["text"].lengths[0.5] == 49
    ids = found.ids
    assert (ids.rows, ids.without, ids.repeated, ids.again) == (104, 2, 2, 2)
    assert sorted(ids.examples) == [("1", 2, c, 1), ("r1", 2, a, 2)]


@pytest.mark.parametrize("at_once", [1, 10, 1000])
def test_repeated_ids_are_found_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    names = [f"{n * n % 37}" for n in range(100)]
    (tmp_path / "a.jsonl").write_bytes(lines(*({"id": name} for name in names)))
    times = Counter(names)
    repeated = {name: count for name, count in times.items() if count > 1}
    found = stats([tmp_path]).ids
    assert (found.repeated, found.again) == (len(repeated), 100 - len(times))
    assert all(repeated[name] == count for name, count, *_ in found.examples)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30))
def test_quantiles_are_exact_or_within_three_percent(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("data")
    half = len(lengths) // 2
    for name, part in (("a", lengths[:half]), ("b", lengths[half:])):
        (folder / f"{name}.jsonl").write_bytes(lines(*({"t": "x" * each} for each in part)))
    (column,) = stats([folder]).columns
    ordered = sorted(lengths)
    for quantile in QUANTILES:
        place = max(0, -(-int(quantile * 1000) * len(ordered) // 1000) - 1)
        exact = ordered[place]
        assert column.lengths[quantile] <= exact <= column.lengths[quantile] * 33 / 32
        assert exact >= 64 or column.lengths[quantile] == exact


def test_a_data_set_without_ids_or_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    found = stats([tmp_path])
    assert (found.rows, found.columns, found.lengths, found.ids.rows) == (0, (), {}, 0)
