"""What a filter would do, from a random sample of the rows.

Every row has the same chance to be drawn. Compressed shards and Parquet, and plain ones that are
small, are read once, and a reservoir holds a uniform sample of their rows (Li 1994, algorithm L).
Of plain shards that are large, windows at random positions are read: all rows that *begin* in one
belong to it. A position falls before a row's first byte as often for a long row as for a short one,
whereas the row *at* a random position is a long one more often. How many rows of the sample come
from either part is binomial, by their numbers of rows; that of the windows' part is estimated from
how many rows began in the windows.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import subl_core

from subl.errors import InputError
from subl.filter.run import filter_shards, summarise
from subl.filter.spec import FilterSpec
from subl.filter.trial import trial
from subl.progress import Progress, Report, silent
from subl.shards import SUFFIXES, format_of, open_lines
from subl.shards.lines import BLANK, BYTE_ORDER_MARK
from subl.shards.names import name_shards

WINDOW_ABOVE_BYTES = 64 << 10
"""Plain shards are read in windows where they have more bytes than this for each row asked for: to
read on is faster than to seek below."""

READ_BYTES = 64 << 20
"""Up to this they are read whatever is asked for: it takes a fraction of a second, and then their
rows are counted."""

_Z = 1.959963984540054
_TRIAL_SECONDS = 1.0
_PILOT_BYTES = 1 << 20
_OPEN_FILES = 16


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % Wilson interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RuleEstimate:
    """How many of the sampled rows break a rule, and which share of all rows would."""

    name: str
    kind: str
    action: str
    hits: int
    breaks: Estimate


@dataclass(frozen=True)
class SampleResult:
    """What a run over everything would do, as far as `sampled` rows tell.

    `rows` is exact where `rows_exact` says so (every shard was read), otherwise an estimate.
    `bytes` are uncompressed. `seconds` is the time of the whole run with as many jobs, None for
    rules that compare rows: `compares_rows`, of which a sample of rows tells too little.
    """

    sampled: int
    rows: int
    rows_exact: bool
    bytes: int
    bytes_read: int
    dropped_rows: int
    unreadable_rows: int
    dropped: Estimate
    rules: tuple[RuleEstimate, ...]
    rows_kept: Estimate
    bytes_kept: int
    seconds: float | None
    compares_rows: bool


ParquetRow = tuple[Path, int]
"""A row of a Parquet file, by its number from 0. It stays where it is until it is judged: as a line
it would not be what the rules see."""


@dataclass(frozen=True)
class Drawn:
    """A uniform sample of the rows of some shards: lines with their line feeds, or rows of Parquet.

    `rows_error` is the standard error of `rows` as a share of it: 0 where they were counted.
    """

    lines: list[bytes | ParquetRow]
    rows: int
    rows_exact: bool
    rows_error: float
    bytes: int
    bytes_read: int


def sample(
    spec: FilterSpec,
    inputs: Sequence[Path],
    count: int,
    *,
    seed: int = 0,
    jobs: int = 1,
    report: Report = silent,
) -> SampleResult:
    """Filter `count` random rows of `inputs` and say what that means for all of them.

    Raises:
        InputError: an input is missing, has no rows, or is truncated or corrupt.
    """
    if count < 1:
        raise InputError(f"a sample needs at least 1 row (got {count})")
    shards = name_shards(inputs, spec.output.compression)
    drawn = draw(
        list(shards.values()),
        count,
        seed=seed,
        window_above_bytes=max(WINDOW_ABOVE_BYTES, READ_BYTES // count),
        report=report,
    )
    if not drawn.lines:
        raise InputError(f"{', '.join(map(str, inputs))}: there are no rows")
    figures = _filter(spec, drawn.lines)
    sampled = figures["rows_in"]
    dropped = wilson(figures["rejected"], sampled)
    compares = bool(spec.plan().comparisons)
    return SampleResult(
        sampled=sampled,
        rows=drawn.rows,
        rows_exact=drawn.rows_exact,
        bytes=drawn.bytes,
        bytes_read=drawn.bytes_read,
        dropped_rows=figures["rejected"],
        unreadable_rows=figures["unreadable"],
        dropped=dropped,
        rules=tuple(
            RuleEstimate(
                rule.name, rule.kind, rule.action, each["hits"], wilson(each["hits"], sampled)
            )
            for rule, each in zip(spec.rules, figures["rules"], strict=True)
        ),
        rows_kept=Estimate(
            drawn.rows * (1 - dropped.value),
            drawn.rows * (1 - dropped.high) * max(0.0, 1 - _Z * drawn.rows_error),
            drawn.rows * (1 - dropped.low) * (1 + _Z * drawn.rows_error),
        ),
        bytes_kept=round(drawn.bytes * figures["bytes_kept"] / figures["bytes_in"]),
        seconds=None if compares else _seconds(spec, shards, jobs),
        compares_rows=compares,
    )


def wilson(hits: int, count: int) -> Estimate:
    """The share hits / count with its 95 % interval (Wilson 1927).

    Unlike the normal approximation it has a width at 0 and at 1.
    """
    z = _Z
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count)
    half *= math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # Rounding must not put the interval beside the share.
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def draw(
    paths: Sequence[Path],
    count: int,
    *,
    seed: int = 0,
    window_above_bytes: int = WINDOW_ABOVE_BYTES,
    report: Report = silent,
) -> Drawn:
    """`count` rows of all shards, or all rows where there are fewer, in random order.

    Rows from windows are drawn with replacement. Blank lines are no rows.
    """
    generator = random.Random(seed)
    plain = [path for path in paths if format_of(path) == ".jsonl"]
    in_windows = sum(path.stat().st_size for path in plain) > window_above_bytes * count
    apart = set(plain) if in_windows else set()
    streamed = [path for path in paths if path not in apart]
    reservoir = _Reservoir(streamed, count, generator, report)
    if not in_windows:
        generator.shuffle(reservoir.lines)
        return Drawn(
            reservoir.lines,
            reservoir.rows,
            True,
            0.0,
            reservoir.content_bytes,
            reservoir.file_bytes,
        )
    with _Windows(plain, generator) as windows:
        windows.read(count)
        rows = reservoir.rows + windows.rows
        share = reservoir.rows / max(1, rows)
        from_reservoir = sum(generator.random() < share for _ in range(count))
        from_reservoir = min(from_reservoir, len(reservoir.lines))
        lines: list[bytes | ParquetRow] = generator.sample(reservoir.lines, from_reservoir)
        lines += windows.take(count - from_reservoir)
        generator.shuffle(lines)
        return Drawn(
            lines,
            rows,
            False,
            windows.rows_error * windows.rows / max(1, rows),
            reservoir.content_bytes + windows.size,
            reservoir.file_bytes + windows.bytes_read,
        )


class _Reservoir:
    """A uniform sample without replacement of all rows of some shards, which are read once."""

    def __init__(
        self, paths: Sequence[Path], count: int, generator: random.Random, report: Report
    ) -> None:
        self.content_bytes = 0
        self.file_bytes = 0
        self._report = report
        self._total = sum(path.stat().st_size for path in paths)
        # From here on nothing but C is called for a row that is not drawn.
        counter = itertools.count()
        numbered = zip(self._rows(paths), counter, strict=False)
        self.lines: list[bytes | ParquetRow] = [row for row, _ in itertools.islice(numbered, count)]
        weight = 1.0
        while len(self.lines) == count:
            weight *= _positive(generator) ** (1 / count)
            skip = int(math.log(_positive(generator)) / math.log1p(-weight)) if weight < 1 else 0
            found = next(itertools.islice(numbered, min(skip, 1 << 62), None), None)
            if found is None:
                break
            self.lines[generator.randrange(count)] = found[0]
        # zip asks the rows first: at their end, the counter has not moved.
        self.rows = next(counter)

    def _rows(self, paths: Sequence[Path]) -> Iterator[bytes | ParquetRow]:
        return itertools.chain.from_iterable(
            self._parquet_rows(path) if format_of(path) == ".parquet" else self._lines(path)
            for path in paths
        )

    def _parquet_rows(self, path: Path) -> Iterator[ParquetRow]:
        try:
            rows, size = subl_core.measure_parquet(path)
        except subl_core.FilterError as error:
            raise InputError(str(error)) from error
        self.content_bytes += size
        self.file_bytes += path.stat().st_size
        return zip(itertools.repeat(path), range(rows), strict=False)

    def _lines(self, path: Path) -> Iterator[bytes]:
        return filter(_is_row, self._all_lines(path))

    def _all_lines(self, path: Path) -> Iterator[bytes]:
        before = self.file_bytes

        def on_read(count: int) -> None:
            self.file_bytes = before + count
            self._report(Progress("sample", self.file_bytes, self._total, "bytes"))

        with open_lines(path, on_read) as lines:
            first = lines.readline()
            yield first.removeprefix(BYTE_ORDER_MARK)
            yield from lines
            self.content_bytes += lines.tell()


def _is_row(line: bytes) -> bytes:
    return line.strip(BLANK)


def _positive(generator: random.Random) -> float:
    return 1.0 - generator.random()


class _Windows:
    """Rows that begin in windows at random positions of plain shards.

    A window is `width` positions, of which some may lie before the file's first byte; the row that
    begins at any byte is in exactly `width` of all windows.
    """

    def __init__(self, paths: Sequence[Path], generator: random.Random) -> None:
        self._generator = generator
        self._paths = [path for path in paths if path.stat().st_size]
        self._sizes = [path.stat().st_size for path in self._paths]
        self.size = sum(self._sizes)
        self.bytes_read = 0
        self._descriptors: dict[int, int] = {}
        self._drawn: list[bytes] = []
        self._windows = 0
        self._squares = 0
        self._width = 1

    def __enter__(self) -> _Windows:
        # About one row a window. Any width would do; this one is fixed before a window is drawn.
        pilot = self._read(0, 0, _PILOT_BYTES)
        self._width = max(1, round(len(pilot) / max(1, pilot.count(b"\n"))))
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    @property
    def rows(self) -> int:
        """How many rows the shards have, estimated."""
        return round(len(self._drawn) / self._windows * self._windows_in_all / self._width)

    @property
    def rows_error(self) -> float:
        """The standard error of `rows`, as a share of it."""
        mean = len(self._drawn) / self._windows
        variance = self._squares / self._windows - mean * mean
        return math.sqrt(max(0.0, variance) / self._windows) / mean if mean else math.inf

    @property
    def _windows_in_all(self) -> int:
        return sum(size + self._width - 1 for size in self._sizes)

    def read(self, windows: int) -> None:
        """Read so many more windows."""
        sizes = [size + self._width - 1 for size in self._sizes]
        for shard in self._generator.choices(range(len(sizes)), sizes, k=windows):
            start = self._generator.randrange(sizes[shard]) - (self._width - 1)
            begun = list(self._begin_in(shard, start, start + self._width))
            self._squares += len(begun) ** 2
            self._drawn += begun
        self._windows += windows

    def take(self, count: int) -> list[bytes]:
        """So many of the rows that were drawn, at random; reads more windows where they lack."""
        while len(self._drawn) < count:
            # Whole rounds, and a choice at the end: to stop at the row that makes it full would
            # favour the rows that begin close to each other.
            self.read(max(100, count - len(self._drawn)))
            if not self._drawn and self._windows > 100_000:
                raise InputError(
                    f"found no rows in {', '.join(map(str, self._paths))}",
                    hint="are the lines millions of bytes long?",
                )
        return self._generator.sample(self._drawn, count)

    def _begin_in(self, shard: int, start: int, end: int) -> Iterator[bytes]:
        # One byte before: a line begins at the start of the file or after a line feed.
        position = max(0, start - 1)
        data = self._read(shard, position, end - position + 2 * self._width)
        at = 0 if start <= 0 else data.find(b"\n") + 1 or len(data) + 1
        while position + at < min(end, self._sizes[shard]):
            stop = data.find(b"\n", at) + 1
            if not stop:
                more = self._read(shard, position + len(data), max(4096, len(data)))
                if more:
                    data += more
                    continue
                stop = len(data)
            line = data[at:stop]
            if position + at == 0:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if _is_row(line):
                yield line
            at = stop

    def _read(self, shard: int, position: int, count: int) -> bytes:
        data = os.pread(self._descriptor(shard), count, position)
        self.bytes_read += len(data)
        return data

    def _descriptor(self, shard: int) -> int:
        """An open file. There may be more shards than a process may open: the one that was not
        read for longest is closed for it."""
        found = self._descriptors.pop(shard, None)
        if found is None:
            if len(self._descriptors) == _OPEN_FILES:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            found = os.open(self._paths[shard], os.O_RDONLY)
        self._descriptors[shard] = found
        return found


def _filter(spec: FilterSpec, rows: Sequence[bytes | ParquetRow]) -> dict[str, Any]:
    """The figures of a run over these rows alone."""
    plain = spec.model_copy(update={"output": type(spec.output)()})
    lines = [row for row in rows if isinstance(row, bytes)]
    numbers: dict[Path, list[int]] = {}
    for row in rows:
        if isinstance(row, tuple):
            numbers.setdefault(row[0], []).append(row[1])
    with tempfile.TemporaryDirectory(prefix="subl-sample-") as name:
        folder = Path(name)
        shards = {}
        if lines:
            shards["sample.jsonl"] = folder / "sample.jsonl"
            with shards["sample.jsonl"].open("wb") as file:
                # Of the first line of a file a byte-order mark would not be looked at.
                file.write(b"\n")
                file.writelines(line if line.endswith(b"\n") else line + b"\n" for line in lines)
        for position, (path, found) in enumerate(numbers.items()):
            part = folder / f"{position}.parquet"
            try:
                subl_core.take_parquet_rows(path, sorted(found), part)
            except subl_core.FilterError as error:
                raise InputError(str(error)) from error
            shards[part.name] = part
        return summarise(plain, shards, filter_shards(plain, shards, folder, 1, silent))


def _seconds(spec: FilterSpec, shards: Mapping[str, Path], jobs: int) -> float:
    """The time of the whole run: each sort of file is tried for a moment."""
    total = 0.0
    formats = {name: format_of(path) for name, path in shards.items()}
    for each in SUFFIXES:
        group = {name: path for name, path in shards.items() if formats[name] == each}
        size = sum(path.stat().st_size for path in group.values())
        if size:
            tried = trial(spec, group, jobs=jobs, limit_seconds=_TRIAL_SECONDS)
            total += size / tried.file_bytes_per_second
    return total
