"""A sample is uniform over rows, whatever their lengths and however the files are read."""

from __future__ import annotations

import gzip
import json
import resource
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, NumbersRule, run
from subl.filter.sample import Drawn, draw, sample, wilson

ALWAYS_WINDOWS, NEVER_WINDOWS = 0, 1 << 40


def row(number: int, length: int) -> bytes:
    return json.dumps({"id": number, "completion": "x" * length}).encode() + b"\n"


def identities(drawn: Drawn) -> list[int]:
    return [json.loads(line)["id"] for line in drawn.lines]


def uneven_rows(count: int) -> list[bytes]:
    """Short rows and long ones next to each other, some blank lines, no line feed at the end."""
    rows = [row(number, (1, 3, 40, 900)[number % 4]) for number in range(count)]
    rows[5] = b"\n \n" + rows[5]
    rows[-1] = rows[-1].rstrip()
    return rows


def write(folder: Path, rows: list[bytes], name: str) -> Path:
    data = b"".join(rows)
    if name.endswith(".gz"):
        data = gzip.compress(data)
    elif name.endswith(".zst"):
        data = zstandard.compress(data)
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("names", "windows"),
    [
        (["a.jsonl"], NEVER_WINDOWS),
        (["a.jsonl"], ALWAYS_WINDOWS),
        (["a.jsonl", "b.jsonl"], ALWAYS_WINDOWS),
        (["a.jsonl.gz", "b.jsonl.zst"], NEVER_WINDOWS),
        (["a.jsonl", "b.jsonl.zst"], ALWAYS_WINDOWS),
    ],
)
def test_every_row_has_the_same_chance(tmp_path: Path, names: list[str], windows: int) -> None:
    rows = uneven_rows(60)
    cut = len(rows) if len(names) == 1 else 23
    parts = [rows[:cut], rows[cut:]]
    paths = [
        write(tmp_path, part, name) for part, name in zip(parts, names, strict=len(names) == 2)
    ]
    drawn: Counter[int] = Counter()
    seeds, count = 400, 12
    for seed in range(seeds):
        found = draw(paths, count, seed=seed, window_above_bytes=windows)
        assert len(found.lines) == count
        drawn.update(identities(found))
    # By class of length: a sample by position alone would be out by a factor of 20.
    for length in range(4):
        hits = sum(drawn[number] for number in range(length, 60, 4))
        assert binomtest(hits, seeds * count, 1 / 4).pvalue > 1e-4, drawn
    # The ends of files are as likely as any other row.
    for number in {0, 5, cut - 1, cut % 60, 59}:
        assert binomtest(drawn[number], seeds * count, 1 / 60).pvalue > 1e-4, (number, drawn)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@given(count=st.integers(1, 40), rows=st.integers(1, 30), seed=st.integers(0, 9))
def test_a_reservoir_holds_distinct_rows_and_counts_all(
    tmp_path_factory: pytest.TempPathFactory, name: str, count: int, rows: int, seed: int
) -> None:
    path = write(tmp_path_factory.mktemp("rows"), [row(n, n) for n in range(rows)], name)
    found = draw([path], count, seed=seed)
    assert len(set(identities(found))) == len(found.lines) == min(count, rows)
    assert (found.rows, found.rows_exact) == (rows, True)
    assert found.bytes == sum(len(row(n, n)) for n in range(rows))
    assert found.lines == draw([path], count, seed=seed).lines


def test_windows_read_little_and_estimate_the_number_of_rows(tmp_path: Path) -> None:
    path = write(tmp_path, [row(n, 50 + n % 100) for n in range(100_000)], "a.jsonl")
    found = draw([path], 50, seed=1)
    assert not found.rows_exact
    assert found.bytes_read < 0.15 * found.bytes == 0.15 * path.stat().st_size
    assert 0.5 < found.rows / 100_000 < 2
    many = draw([path], 5000, seed=1, window_above_bytes=0)
    assert 0.95 < many.rows / 100_000 < 1.05
    assert 0 < many.rows_error < found.rows_error
    assert abs(many.rows / 100_000 - 1) < 4 * many.rows_error


def test_a_row_longer_than_a_window_is_whole(tmp_path: Path) -> None:
    rows = [row(0, 1), row(1, 3_000_000), row(2, 1)]
    path = write(tmp_path, rows, "a.jsonl")
    found = draw([path], 30, seed=3, window_above_bytes=0)
    assert set(found.lines) == set(rows)


SPEC = FilterSpec(
    rules=(NumbersRule(name="numbers", max_value=999), LiteralRule(name="seven", words=("7",)))
)


def write_numbers(folder: Path, count: int) -> Path:
    lines = (
        f'{{"completion": "{number}, 7"}}\n'
        if number % 5 == 0
        else f'{{"completion": "{number % 1500}"}}\n'
        for number in range(count)
    )
    (folder / "a.jsonl").write_text("".join(lines))
    return folder / "a.jsonl"


def test_the_estimate_holds_what_a_run_finds(tmp_path: Path) -> None:
    path = write_numbers(tmp_path, 20_000)
    truth = run(SPEC, [path], tmp_path / "out").artifact.result
    outside = 0
    for seed in range(20):
        found = sample(SPEC, [path], 400, seed=seed)
        assert found.sampled == 400 and found.rows == 20_000
        outside += not found.rows_kept.low <= truth["kept"] <= found.rows_kept.high
        outside += not found.dropped.low <= truth["rejected"] / 20_000 <= found.dropped.high
        for rule, each in zip(found.rules, truth["rules"], strict=True):
            outside += not rule.breaks.low <= each["hits"] / 20_000 <= rule.breaks.high
        assert found.bytes_kept == pytest.approx(truth["bytes_kept"], rel=0.2)
    assert outside <= 12  # of 80 intervals of 95 %
    assert found.seconds is not None and found.seconds > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out"]


def test_wilson() -> None:
    # Newcombe 1998, table I.
    for hits, count, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)]:
        found = wilson(hits, count)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert wilson(0, 20).low == 0 < wilson(0, 20).high
    assert wilson(20, 20).high == 1 > wilson(20, 20).low


def test_nothing_to_sample(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n\n")
    with pytest.raises(InputError, match="no rows"):
        sample(SPEC, [tmp_path / "a.jsonl"], 5)
    with pytest.raises(InputError, match="at least 1 row"):
        sample(SPEC, [tmp_path / "a.jsonl"], 0)


def test_there_may_be_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    paths = [write(tmp_path, [row(number, 9)], f"{number}.jsonl") for number in range(200)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "last").open("wb") as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 50, hard))
        try:
            found = draw(paths, 400, window_above_bytes=ALWAYS_WINDOWS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(set(identities(found))) > 100
