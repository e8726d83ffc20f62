"""Filter shards into an artifact.

    OUT/kept/NAME        the rows that no rule drops, byte for byte (Parquet: value for value); in
                         parts if they are split
    OUT/rejects/NAME     all other rows, with every reason; see `subl_core`
    OUT/result.json      figures

A shard is one unit of work: a thread hands its file names to the engine, which runs without the
interpreter's lock. A finished shard leaves a marker in the partial directory, written after its two
files are on the disk, and an unfinished one a journal, so that a run that was killed goes on where
it was (an unfinished Parquet shard starts again). Rules that compare rows need a first pass over
all shards; it leaves their signatures.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import subl_core

from subl.artifact import Artifact, build, write_atomically
from subl.artifact.statement import read_statement
from subl.errors import InputError, OutputError
from subl.filter.rules import FilterSpec
from subl.progress import Progress, Report, silent
from subl.shards import format_of, shard_files

_MARKERS = ".done"
_HINT = "repair or leave out what is at fault; a run keeps the shards that it has finished"
_COUNTS = (
    "rows_in",
    "kept",
    "rejected",
    "unreadable",
    "tagged",
    "blank_lines",
    "bytes_in",
    "bytes_kept",
)

T = TypeVar("T")

Statistics = dict[str, Any]
"""The statistics of one shard as `subl_core.filter_shard` returns them."""


@dataclass(frozen=True)
class FilterResult:
    """A finished filter run; `artifact.result` has all figures."""

    artifact: Artifact
    rows_in: int
    kept: int
    rejected: int
    unreadable: int

    @property
    def kept_folder(self) -> Path:
        """Where the kept rows are, one file a shard."""
        return self.artifact.path / "kept"

    @property
    def rejects_folder(self) -> Path:
        """Where the rejected rows are with their reasons, one file a shard."""
        return self.artifact.path / "rejects"


def run(
    spec: FilterSpec,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    jobs: int = 1,
    journal_seconds: float = 10.0,
    report: Report = silent,
) -> FilterResult:
    """Filter the rows of `inputs` into the artifact `out`, or return it if it is there already.

    Inputs are files of JSON lines (plain, gzip, zstandard) or Parquet, by their first bytes,
    folders of them, or artifacts. A shard keeps the base name of its input; where two inputs share
    one, all names get the position of their shard as a prefix. `jobs` threads work, on different
    shards where there are so many. How far an unfinished shard is gets written down every
    `journal_seconds`. `report` is called from the threads that do the work, one call at a time.

    Raises:
        InputError: an input is missing, has no rows, is given twice, or is truncated or corrupt.
        OutputError: `out` is taken or cannot be written.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1 (got {jobs})")
    paths = [Path(path) for path in inputs]
    shards = name_shards(paths, spec.output.compression)
    check_shards(spec, shards.values())

    def work(folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        statistics = filter_shards(
            spec, shards, folder, jobs, report, journal_seconds=journal_seconds
        )
        shutil.rmtree(folder / _MARKERS)
        figures = summarise(spec, shards, statistics)
        return {**figures, "seconds": round(time.monotonic() - started, 3)}

    artifact = build(Path(out), "filter", spec, _name_inputs(paths), work)
    return FilterResult(
        artifact,
        *(artifact.result[count] for count in ("rows_in", "kept", "rejected", "unreadable")),
    )


def name_shards(inputs: Sequence[Path], compression: str = "auto") -> dict[str, Path]:
    """The shards of all inputs by the name that they have in the output, in order.

    The engine compresses as the name ends; `compression` is that of `OutputSpec`.
    """
    paths = [shard for path in inputs for shard in shard_files(path)]
    if not paths:
        raise InputError(
            "no input", hint="give files, or folders of *.jsonl, *.jsonl.gz, *.jsonl.zst, *.parquet"
        )
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise InputError(f"{path} is given {count} times", hint="give every shard once")
    return _distinct(paths, [_output_name(path, compression) for path in paths])


def check_shards(spec: FilterSpec, paths: Iterable[Path]) -> None:
    """Look at the beginning of each shard, so that what can fail at once does not fail late.

    Raises:
        InputError: a shard is missing, corrupt at its beginning, or cannot be written as asked.
    """
    plan = spec.plan()
    for path in paths:
        try:
            subl_core.check_shard(plan, path, split_bytes=spec.output.split_bytes)
        except subl_core.FilterError as error:
            raise _input_error(error) from error


def _input_error(error: subl_core.FilterError) -> InputError:
    """The engine's finding about an input. What does not fit the rules is no fault of the file."""
    is_fault = isinstance(error, subl_core.ReadError)
    return InputError(str(error), hint=_HINT if is_fault else "give another file or other rules")


def summarise(
    spec: FilterSpec, shards: Mapping[str, Path], statistics: Mapping[str, Statistics]
) -> dict[str, Any]:
    """The figures of a run from the statistics of its shards: everything is a sum."""
    every = [statistics[name] for name in shards]
    return {
        **{count: sum(each[count] for each in every) for count in _COUNTS},
        "rules": [
            {
                "name": rule.name,
                "kind": rule.kind,
                "action": rule.action,
                "hits": sum(each["rules"][index]["hits"] for each in every),
                "sole_hits": sum(each["rules"][index]["sole_hits"] for each in every),
                "reasons": _sum(each["rules"][index]["reasons"] for each in every),
            }
            for index, rule in enumerate(spec.rules)
        ],
        "unreadable_reasons": _sum(each["unreadable_reasons"] for each in every),
        "shards": [
            {
                "name": name,
                "input": path.as_posix(),
                **{count: statistics[name][count] for count in _COUNTS},
            }
            for name, path in shards.items()
        ],
    }


def filter_shards(
    spec: FilterSpec,
    shards: Mapping[str, Path],
    folder: Path,
    jobs: int,
    report: Report,
    *,
    journal_seconds: float = 10.0,
    task: str = "filter",
    finished: Callable[[str], None] = lambda name: None,
) -> dict[str, Statistics]:
    """Filter `shards`, inputs by output name, into `kept/` and `rejects/` of `folder`.

    `task` is what progress calls it. `finished` is called with the name of each shard that this
    call has finished, by the thread that did. What `report` raises ends the work and comes out.
    """
    plan = spec.plan()
    done = _resume(shards, folder)
    duplicates = None
    if plan.comparisons and len(done) < len(shards):
        duplicates = _find_duplicates(plan, shards, folder, jobs, report)
    meter = _Meter(task, shards, report)
    for name, statistics in done.items():
        meter.finish(name, statistics["rows_in"], statistics["kept"])

    positions = {name: position for position, name in enumerate(shards)}

    def work(name: str, threads: int) -> Statistics:
        statistics: Statistics = json.loads(
            subl_core.filter_shard(
                plan,
                shards[name],
                folder / "kept" / name,
                folder / "rejects" / name,
                journal=folder / _MARKERS / f"{name}.journal",
                journal_seconds=journal_seconds,
                threads=threads,
                split_rows=spec.output.split_rows,
                split_bytes=spec.output.split_bytes,
                duplicates=duplicates,
                shard=positions[name],
                progress=lambda *state: meter.update(name, *state),
            )
        )
        write_atomically(_marker(folder, name), _marker_text(statistics))
        meter.finish(name, statistics["rows_in"], statistics["kept"])
        finished(name)
        return statistics

    return done | _for_each_shard(shards.keys() - done.keys(), meter, jobs, work)


def _find_duplicates(
    plan: subl_core.Plan, shards: Mapping[str, Path], folder: Path, jobs: int, report: Report
) -> subl_core.Duplicates:
    meter = _Meter("compare", shards, report)
    signatures = {
        name: [folder / _MARKERS / f"{name}.{rule}.signatures" for rule in range(plan.comparisons)]
        for name in shards
    }

    def work(name: str, threads: int) -> None:
        rows = 0
        if not all(path.exists() for path in signatures[name]):
            rows = subl_core.sign_shard(
                plan,
                shards[name],
                signatures[name],
                threads=threads,
                progress=lambda *state: meter.update(name, *state),
            )
        meter.finish(name, rows, 0)

    _for_each_shard(shards.keys(), meter, jobs, work)
    try:
        return subl_core.Duplicates(plan, list(shards), list(signatures.values()), jobs)
    except subl_core.FilterError as error:
        raise InputError(str(error)) from error


def _for_each_shard(
    names: Collection[str], meter: _Meter, jobs: int, work: Callable[[str, int], T]
) -> dict[str, T]:
    """Call `work` with each shard and the threads that it may use, `jobs` of them at a time."""
    # The largest first, so that the last ones to finish are small.
    waiting = sorted(names, key=lambda name: (-meter.sizes[name], name))
    # One thread a shard; where there are fewer shards than threads, several.
    threads = max(1, jobs // max(1, len(waiting)))
    done = {}
    with ThreadPoolExecutor(jobs, thread_name_prefix="filter") as pool:
        futures = {pool.submit(work, name, threads): name for name in waiting}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
        except BaseException as error:
            # The first failure, or Ctrl-C: what is finished stays for the next run.
            meter.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, subl_core.WriteError):
                raise OutputError(str(error)) from error
            if isinstance(error, subl_core.FilterError):
                raise _input_error(error) from error
            raise
    return done


def _resume(shards: Mapping[str, Path], folder: Path) -> dict[str, Statistics]:
    """What an interrupted run with the same key has finished; the engine goes on with the rest."""
    for part in ("kept", "rejects", _MARKERS):
        (folder / part).mkdir(exist_ok=True)
    done = {}
    for name in shards:
        if (statistics := _read_marker(_marker(folder, name))) is not None:
            done[name] = statistics
    return done


def _marker(folder: Path, name: str) -> Path:
    return folder / _MARKERS / f"{name}.json"


def _marker_text(statistics: Statistics) -> str:
    return json.dumps({"engine": subl_core.__version__, "statistics": statistics})


def _read_marker(path: Path) -> Statistics | None:
    """The statistics of a finished shard; None if it is not, or another engine finished it."""
    if not path.is_file():
        return None
    marker = json.loads(path.read_text(encoding="utf-8"))
    return marker["statistics"] if marker["engine"] == subl_core.__version__ else None


class _Stopped(Exception):
    """Ends a shard whose result nobody waits for any more."""


class _Meter:
    """Adds up the progress of shards that run at the same time."""

    def __init__(self, stage: str, shards: Mapping[str, Path], report: Report) -> None:
        self._stage = stage
        self.stop = threading.Event()
        self.sizes = {name: path.stat().st_size for name, path in shards.items()}
        self._report = report
        self._lock = threading.Lock()
        self._states = dict.fromkeys(shards, (0, 0, 0))

    def update(self, name: str, bytes_read: int, rows: int, kept: int) -> None:
        """Take note of one shard, and report the sum of all. Raises what ends the shard.

        What is read is not yet done: only a finished shard counts to its last byte.
        """
        self._note(name, min(bytes_read, max(0, self.sizes[name] - 1)), rows, kept)

    def finish(self, name: str, rows: int, kept: int) -> None:
        """Take note of a finished shard."""
        self._note(name, self.sizes[name], rows, kept)

    def _note(self, name: str, bytes_read: int, rows: int, kept: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        with self._lock:
            self._states[name] = (bytes_read, rows, kept)
            bytes_read, rows, kept = (
                sum(each) for each in zip(*self._states.values(), strict=True)
            )
            figures = {"rows": rows} if self._stage == "compare" else {"rows": rows, "kept": kept}
            note = f"{rows:,} rows"
            if "kept" in figures and rows:
                note += f", {100 * kept / rows:.1f} % kept"
            total = sum(self.sizes.values())
            self._report(Progress(self._stage, bytes_read, total, "bytes", note, figures))


def _name_inputs(inputs: Sequence[Path]) -> dict[str, Path]:
    """What the result is made of: artifacts, and the shards of all else. Other files in a folder
    are no inputs."""
    paths = [
        found
        for path in inputs
        for found in ([path] if read_statement(path) is not None else shard_files(path))
    ]
    return _distinct(paths, [path.name for path in paths])


def _distinct(paths: Sequence[Path], names: Sequence[str]) -> dict[str, Path]:
    """Paths by name, or all with their position as a prefix where names are shared."""
    if len(set(names)) < len(names):
        width = len(str(len(paths) - 1))
        names = [f"{index:0{width}}-{name}" for index, name in enumerate(names)]
    return dict(zip(names, paths, strict=True))


def _output_name(path: Path, compression: str) -> str:
    """The name of the input; Parquet ends in `.parquet`, in any case, and nothing else does."""
    name = path.name
    is_named = name.lower().endswith(".parquet")
    if format_of(path) == ".parquet":
        return name if is_named else f"{name}.parquet"
    if is_named:
        name += ".jsonl"
    if compression == "auto":
        return name
    plain = re.sub(r"\.(gz|zstd?)$", "", name, flags=re.IGNORECASE) or name
    return plain if compression == "none" else f"{plain}.{compression}"


def _sum(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))
