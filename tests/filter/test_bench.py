"""A measurement of the user's own data: its parts, not its figures."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from subl.filter import FilterSpec, LiteralRule, NoneRule, NumbersRule
from subl.filter.bench import PARTS, bench, example_spec, write_example_rows
from subl.filter.trial import trial


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_example_rows(tmp_path / "rows.jsonl", 3_000_000)
    return tmp_path / "rows.jsonl"


def test_example_rows_are_the_same_each_time(rows: Path, tmp_path: Path) -> None:
    write_example_rows(tmp_path / "again.jsonl", 3_000_000)
    assert rows.read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    assert 3_000_000 <= rows.stat().st_size < 3_001_000


@pytest.mark.parametrize("compressed", [False, True])
def test_the_parts_add_up(rows: Path, compressed: bool) -> None:
    if compressed:
        rows.with_name("rows.jsonl.gz").write_bytes(gzip.compress(rows.read_bytes(), 1))
        rows = rows.with_name("rows.jsonl.gz")
    found = bench(example_spec(), [rows], threads=2, limit_seconds=0.1)
    assert (found.files, found.file_bytes) == (1, rows.stat().st_size)
    assert [speed.threads for speed in found.speeds] == [1, 2]
    assert 0.5 < found.speeds[0].kept_share < 1 == found.baseline.kept_share
    assert [rule.name for rule in found.rules] == ["numbers", "ten words"]
    assert tuple(found.seconds_per_gigabyte) == PARTS
    assert all(seconds >= 0 for seconds in found.seconds_per_gigabyte.values())
    assert (found.compression_ratio > 2) == compressed
    assert (found.seconds_per_gigabyte["decompressing"] > 0) == compressed
    assert found.seconds_per_gigabyte["digests"] > 0
    assert sum(found.seconds_per_gigabyte.values()) >= 0.999e9 / found.speeds[0].bytes_per_second
    assert compressed or found.seconds_per_gigabyte["compressing"] == 0
    assert "% of the time of one thread" in found.limit


def test_a_rule_about_other_rules_has_no_cost_of_its_own(rows: Path) -> None:
    spec = FilterSpec(
        rules=(
            LiteralRule(name="owl", words=("owl",), action="count"),
            NoneRule(name="no owl", rules=("owl",)),
        )
    )
    costs = bench(spec, [rows], threads=1, limit_seconds=0.01).rules
    assert costs[0].seconds_per_gigabyte is not None
    assert costs[1].seconds_per_gigabyte is None


def test_a_trial_ends_in_time_and_counts_what_it_did(rows: Path) -> None:
    spec = FilterSpec(rules=(NumbersRule(name="n"),))
    whole = trial(spec, {"a.jsonl": rows}, jobs=1, limit_seconds=60)
    assert (whole.file_bytes, whole.rows) == (rows.stat().st_size, rows.read_bytes().count(b"\n"))
    begun = trial(spec, {"a.jsonl": rows}, jobs=1, limit_seconds=0)
    assert begun.file_bytes <= whole.file_bytes and begun.seconds > 0
