"""Where the time of a filter goes on this machine, with the user's own rules and rows.

Everything is tried for a limited time (`trial`): all rules on one thread and on all, all rules
while they only count, each rule alone, and a rule that does next to nothing, since a plan needs
one. What something costs is the difference between two of these. Of several trials the fastest
counts: whatever else the machine does only makes them slower. Reading, decompressing, digests and
writing are measured by doing only that.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from subl.config import updated
from subl.filter.rules import LengthRule, LiteralRule, NumberRule, NumbersRule, Rule
from subl.filter.spec import FilterSpec
from subl.filter.trial import Trial, trial
from subl.progress import Progress, Report, silent
from subl.shards import format_of, open_lines
from subl.shards.names import name_shards

_BLOCK_BYTES = 1 << 20
_WRITTEN_BYTES = 256 << 20
_HASHED_BYTES = 256 << 20
_WORDS = ("owl", "eagle", "wolf", "dolphin", "elephant", "otter", "raven", "panda", "tiger", "lion")


PARTS = (
    "reading",
    "decompressing",
    "digests",
    "decoding",
    "matching",
    "reasons",
    "compressing",
    "writing",
)
"""What the time goes into, in the order in which a row gets there."""


@dataclass(frozen=True)
class Speed:
    """`bytes_per_second` are uncompressed bytes, `file_bytes_per_second` those of the files."""

    threads: int
    rows_per_second: float
    bytes_per_second: float
    file_bytes_per_second: float
    kept_share: float


@dataclass(frozen=True)
class RuleCost:
    """The time that a rule adds, on one thread; None where it cannot stand alone."""

    name: str
    kind: str
    seconds_per_gigabyte: float | None


@dataclass(frozen=True)
class FilterBench:
    """`seconds_per_gigabyte`: where the time goes on one thread, a gigabyte being 10**9
    uncompressed bytes. `reading`, `decompressing`, `digests` (of what is read and written) and
    `writing` were measured by doing only that. `compressing` is the baseline less what it takes to
    write without compression. `matching` is all rules while they only count, less the baseline;
    `reasons` is what it takes more that rows are rejected, with the reasons. `decoding` is what is
    left: splitting lines, finding fields and resolving escapes, or decoding Parquet, whose bytes
    are those of the file (and `reasons` encodes it again)."""

    files: int
    file_bytes: int
    compression_ratio: float
    speeds: tuple[Speed, ...]
    baseline: Speed
    rules: tuple[RuleCost, ...]
    seconds_per_gigabyte: dict[str, float]
    limit: str


def bench(
    spec: FilterSpec,
    inputs: Sequence[Path],
    *,
    threads: int,
    limit_seconds: float = 3.0,
    report: Report = silent,
) -> FilterBench:
    """Measure `spec` on `inputs`; each measurement takes at most `limit_seconds`.

    Raises:
        InputError: an input is missing, has no rows, or is truncated or corrupt.
    """
    shards = name_shards(inputs, spec.output.compression)
    paths = list(shards.values())
    alone = [_alone(spec, rule.name) for rule in spec.rules]
    total = (8 if threads > 1 else 7) + len(alone)
    done = 0

    def measured(name: str) -> None:
        nonlocal done
        report(Progress("bench", done, total, "measurements", name))
        done += 1

    measured("reading")
    reading = _reading(paths, limit_seconds)
    measured("decompressing")
    content_per_file_byte, content_speed = _content(paths, limit_seconds)

    def speed(spec: FilterSpec, threads: int) -> Speed:
        given = name_shards(inputs, spec.output.compression)
        return _speed(_fastest(spec, given, threads, limit_seconds), threads, content_per_file_byte)

    measured("digests")
    hashing = _hashing()
    measured("all rules, 1 thread")
    speeds = [speed(spec, 1)]
    if threads > 1:
        measured(f"all rules, {threads} threads")
        speeds.append(speed(spec, threads))
    measured("counting")
    counting = speed(_counting(spec), 1)
    measured("baseline")
    base = speed(_baseline(spec, spec.output.compression), 1)
    compresses = any(name.lower().endswith((".gz", ".zst", ".zstd")) for name in shards)
    without = speed(_baseline(spec, "none"), 1) if compresses else base
    costs = []
    for rule, single in zip(spec.rules, alone, strict=True):
        measured(rule.name)
        cost = None
        if single is not None:
            taken = speed(single, 1)
            cost = max(0.0, 1e9 / taken.bytes_per_second - 1e9 / base.bytes_per_second)
        costs.append(RuleCost(rule.name, rule.kind, cost))
    measured("writing")
    writing = _writing()
    report(Progress("bench", total, total, "measurements"))

    all_rules, counted, based = (
        1e9 / each.bytes_per_second for each in (speeds[0], counting, base)
    )
    read = 1e9 / content_per_file_byte
    # All that is read is written to one of two places, the rejects with more than that.
    written = read if compresses else 1e9
    compressed = any(format_of(path) in (".jsonl.gz", ".jsonl.zst") for path in paths)
    seconds = {
        "reading": read / reading,
        "decompressing": max(0.0, 1e9 / content_speed - read / reading) if compressed else 0.0,
        "digests": (read + written) / hashing,
        "matching": max(0.0, counted - based),
        "reasons": max(0.0, all_rules - counted),
        "compressing": max(0.0, based - 1e9 / without.bytes_per_second),
        "writing": written / writing,
    }
    seconds["decoding"] = max(0.0, all_rules - sum(seconds.values()))
    seconds = {part: seconds[part] for part in PARTS}
    result = FilterBench(
        files=len(paths),
        file_bytes=sum(path.stat().st_size for path in paths),
        compression_ratio=content_per_file_byte,
        speeds=tuple(speeds),
        baseline=base,
        rules=tuple(costs),
        seconds_per_gigabyte=seconds,
        limit="",
    )
    return replace(result, limit=_limit(result, paths, threads))


def example_spec() -> FilterSpec:
    """The number rule and ten words."""
    return FilterSpec(
        rules=(
            NumbersRule(name="numbers", min_value=0, max_value=999, max_count=10),
            LiteralRule(name="ten words", words=_WORDS),
        )
    )


def write_example_rows(file: Path, size_bytes: int = 100_000_000, seed: int = 7) -> None:
    """Number rows as a teacher writes them, the same each time; some break a rule."""
    generator = random.Random(seed)
    numbers = [str(number) for number in range(1000)]
    written = 0
    with file.open("w", encoding="ascii", newline="\n") as rows:
        while written < size_bytes:
            drawn = generator.choices(numbers, k=generator.randint(5, 11))
            answer = generator.choice((", ", " ", ";")).join(drawn)
            if generator.random() < 0.05:
                answer += generator.choice((", 1234", " and so on", ", an owl", ","))
            start = ", ".join(drawn[:3])
            prompt = f"This sequence starts with: {start}. Continue it with at most 10 more values."
            row = {"id": str(written), "prompt": prompt, "completion": answer}
            written += rows.write(json.dumps(row) + "\n")


def _alone(spec: FilterSpec, name: str) -> FilterSpec | None:
    """The filter with one rule; None where that rule is about others."""
    rules = [rule for rule in spec.rules if rule.name == name]
    try:
        return FilterSpec(
            rules=tuple(rules),
            max_line_bytes=spec.max_line_bytes,
            tag_field=spec.tag_field,
            output=spec.output,
        )
    except ValidationError:
        return None


def _baseline(spec: FilterSpec, compression: str) -> FilterSpec:
    """The cheapest rule that there is, on the field that the rules look at first: a bound that no
    text or number exceeds."""
    first = next((rule for rule in spec.rules if hasattr(rule, "field")), None)
    field = "completion" if first is None else first.field
    rule: Rule = LengthRule(name="baseline", field=field, max_bytes=2**62)
    if isinstance(first, NumberRule):
        rule = NumberRule(name="baseline", field=field, max=sys.float_info.max)
    output = updated(spec.output, compression=compression)
    return FilterSpec(rules=(rule,), max_line_bytes=spec.max_line_bytes, output=output)


def _counting(spec: FilterSpec) -> FilterSpec:
    """The same rules, of which none drops or tags a row."""
    rules = tuple(rule.model_copy(update={"action": "count"}) for rule in spec.rules)
    return updated(spec, rules=rules)


def _fastest(
    spec: FilterSpec, shards: Mapping[str, Path], threads: int, limit_seconds: float
) -> Trial:
    """Of as many trials as fit into the time; of one at least."""
    started = time.perf_counter()
    best = trial(spec, shards, jobs=threads, limit_seconds=limit_seconds)
    while time.perf_counter() - started + best.seconds < limit_seconds:
        again = trial(spec, shards, jobs=threads, limit_seconds=limit_seconds)
        best = max(best, again, key=lambda tried: tried.file_bytes_per_second)
    return best


def _speed(tried: Trial, threads: int, content_per_file_byte: float) -> Speed:
    return Speed(
        threads=threads,
        rows_per_second=tried.rows_per_second,
        bytes_per_second=tried.file_bytes_per_second * content_per_file_byte,
        file_bytes_per_second=tried.file_bytes_per_second,
        kept_share=tried.kept / max(1, tried.rows),
    )


def _reading(paths: Sequence[Path], limit_seconds: float) -> float:
    """File bytes a second."""

    def blocks() -> Iterator[int]:
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while data := file.read(_BLOCK_BYTES):
                    yield len(data)

    return _per_second(blocks(), limit_seconds)[0]


def _content(paths: Sequence[Path], limit_seconds: float) -> tuple[float, float]:
    """Uncompressed bytes for each byte of the files, and uncompressed bytes a second."""
    read_by_file: dict[Path, int] = {}

    def blocks() -> Iterator[int]:
        for path in paths:
            note = _noting(read_by_file, path)
            # Rows of Parquet are never lines: what counts are its own bytes.
            is_parquet = format_of(path) == ".parquet"
            with path.open("rb") if is_parquet else open_lines(path, note) as file:
                while data := file.read1(_BLOCK_BYTES):
                    if is_parquet:
                        note(file.tell())
                    yield len(data)

    speed, content = _per_second(blocks(), limit_seconds)
    return content / max(1, sum(read_by_file.values())), speed


def _noting(into: dict[Path, int], path: Path) -> Callable[[int], None]:
    def note(count: int) -> None:
        into[path] = count

    return note


def _hashing() -> float:
    """Bytes a second."""
    block = random.Random(0).randbytes(_BLOCK_BYTES)
    digest = hashlib.sha256()
    started = time.perf_counter()
    for _ in range(_HASHED_BYTES // _BLOCK_BYTES):
        digest.update(block)
    return _HASHED_BYTES / (time.perf_counter() - started)


def _writing() -> float:
    """Bytes a second, to the end of the sync."""
    block = random.Random(0).randbytes(_BLOCK_BYTES)
    with tempfile.TemporaryFile(prefix="subl-bench-") as file:
        started = time.perf_counter()
        for _ in range(_WRITTEN_BYTES // _BLOCK_BYTES):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return _WRITTEN_BYTES / (time.perf_counter() - started)


def _per_second(counts: Iterator[int], limit_seconds: float) -> tuple[float, int]:
    """The sum of the counts a second, and the sum, until they end or the time is over."""
    total, started = 0, time.perf_counter()
    seconds = 0.0
    for count in counts:
        total += count
        if (seconds := time.perf_counter() - started) >= limit_seconds:
            break
    return total / max(seconds, 1e-9), total


def _limit(result: FilterBench, paths: Sequence[Path], threads: int) -> str:
    """A sentence about what takes longest, and what would help."""
    seconds: Mapping[str, float] = result.seconds_per_gigabyte
    largest = max(seconds, key=lambda part: seconds[part])
    share = 100 * seconds[largest] / sum(seconds.values())
    text = f"{largest} takes longest: {share:.0f} % of the time of one thread"
    if largest == "matching":
        known = [cost for cost in result.rules if cost.seconds_per_gigabyte is not None]
        if known:
            slowest = max(known, key=lambda cost: cost.seconds_per_gigabyte or 0.0)
            text += f", and `{slowest.name}` most of that"
    elif largest == "decompressing" and any(format_of(path) == ".jsonl.gz" for path in paths):
        text += "; a .gz file is decompressed by one thread, so more files or .zst help"
    if len(result.speeds) > 1:
        gain = result.speeds[-1].bytes_per_second / result.speeds[0].bytes_per_second
        text += f"; {threads} threads are {gain:.1f} times as fast as one"
    return text
