"""Filter shards into an artifact.

    OUT/kept/NAME        the rows that no rule drops, byte for byte (Parquet: value for value); in
                         parts if they are split
    OUT/rejects/NAME     all other rows, with every reason; see `subl_core`
    OUT/result.json      figures

A shard is one unit of work: a thread hands its file names to the engine, which runs without the
interpreter's lock. What is unfinished lies in a folder of the partial directory where nothing else
does (`_WORK`), so that files may be called whatever they are. A finished shard is noted there once
its files are on the disk, and an unfinished one leaves a journal, so that a run that was killed
goes on where it was (an unfinished Parquet shard starts again). The folder is hidden, so it goes
when the artifact is published, and not before. Rules that compare rows need a
first pass over all shards; it leaves their signatures.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import subl_core

from subl.artifact import WHOLE, Artifact, Made, Parts, Reading, Slice, build_parts
from subl.errors import InputError, OutputError, StageError
from subl.filter.finished import Finished, Statistics, noted, remembered
from subl.filter.inputs import check_shared, look, read_bins
from subl.filter.meter import Meter
from subl.filter.spec import FilterSpec
from subl.progress import Report, silent
from subl.shards import Stated, check_stated

if TYPE_CHECKING:
    from subl.filter.on_ray import RayEngine

_WORK = ".work"
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
    data: Sequence[Path | str],
    out: Path | str,
    *,
    jobs: int = 1,
    mine: Slice = WHOLE,
    bins: Path | None = None,
    journal_seconds: float = 10.0,
    report: Report = silent,
    engine: RayEngine | None = None,
) -> FilterResult:
    """Filter the rows of `data` into the artifact `out`, or return it if it is there already.

    Data are files of JSON lines (plain, gzip, zstandard) or Parquet, by their first bytes,
    folders of them, or artifacts. A shard keeps the base name of its input; where two inputs share
    one, all names get the position of their shard as a prefix. `jobs` threads work, on different
    shards where there are so many. How far an unfinished shard is gets written down every
    `journal_seconds` (`math.inf`: never). `report` is called from the threads that do the work, one
    call at a time. Of a slice only its shards are filtered, as many bytes as another's, or as the
    file `bins` says (see `inputs`), which saves looking at all others; who finds all of them done
    makes the artifact. With an `engine`, shards are filtered there, `jobs` threads at a time; the
    result is the same.

    Raises:
        UnfinishedError: the slice's shards are filtered, and others are not yet.
        ConfigError: rules compare rows, which no slice can do for itself, nor a worker of Ray.
        InputError: an input is missing, has no rows, is given twice, or is truncated or corrupt.
        OutputError: `out` is taken or cannot be written.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1 (got {jobs})")
    if not journal_seconds >= 0:  # a NaN is not
        raise InputError(f"journal_seconds must be 0 or more (got {journal_seconds})")
    paths = [Path(path) for path in data]
    plan = spec.plan()
    if mine != WHOLE or engine is not None:
        check_shared(spec, str(mine) if mine != WHOLE else "a task of Ray")
    inputs = look(spec, paths) if bins is None else read_bins(bins, spec, paths, mine)
    named, names = inputs.named, [shard.name for shard in inputs.shards]
    shards = {shard.name: shard.path for shard in inputs.shards}

    def filtered(folder: Path, numbers: Sequence[int]) -> dict[str, Statistics]:
        some = [inputs.shards[number] for number in numbers]
        return filter_shards(
            spec,
            {shard.name: shard.path for shard in some},
            folder,
            jobs,
            report,
            journal_seconds=journal_seconds,
            known={shard.path: shard.stated for shard in some},
            called={shard.path: shard.label for shard in some},
            notes="" if mine == WHOLE else f"-{mine.index}-of-{mine.count}",
            engine=engine,
        )

    def make(folder: Path, numbers: Sequence[int]) -> None:
        if mine != WHOLE:  # else all are left to `finish`: rules that compare rows need all
            filtered(folder, numbers)

    def finish(folder: Path) -> Made:
        started = time.monotonic()
        statistics = filtered(folder, range(len(names)))
        _check_rows(statistics)
        _drop_others(spec, folder, statistics)
        figures = summarise(spec, shards, statistics)
        figures["seconds"] = round(time.monotonic() - started, 3)
        return Made(figures, _rows(figures), _written(spec, statistics), made_of(statistics))

    parts = Parts(
        names,
        make,
        finish,
        share=inputs.share,
        noted=lambda folder: {
            name: found["sha256"]["input"] for name, found in noted(folder / _WORK).items()
        },
    )
    check_shards(spec, (shards[names[number]] for number in parts.of(mine)))

    def made_of(statistics: Mapping[str, Statistics]) -> dict[str, str]:
        """The digests of those inputs that are shards, as far as these were read."""
        read: dict[Path, str] = {
            shards[name]: found["sha256"]["input"]
            for name, found in statistics.items()
            if name in shards
        }
        return {name: read[path] for name, path in named.items() if path in read}

    def learned(folder: Path) -> dict[str, str]:
        return made_of(remembered(folder / _WORK))

    # Where rows are compared, what is left of one shard depends on all others as they were then.
    depends = bool(plan.comparisons)
    artifact = build_parts(
        Path(out),
        "filter",
        spec,
        named,
        lambda folder: parts,
        mine,
        learned=None if depends else learned,
        unseen=inputs.others(mine),
    )
    return FilterResult(
        artifact,
        *(artifact.result[count] for count in ("rows_in", "kept", "rejected", "unreadable")),
    )


def _check_rows(statistics: Mapping[str, Statistics]) -> None:
    """Every row of every shard is in one file that was written, and in no other."""
    for name, found in statistics.items():
        if not found["rows_in"] - found["rejected"] == found["kept"] == sum(found["parts"]):
            raise StageError(
                f"{name}: {found['rows_in']} rows were read, {found['kept']} kept (in files of "
                f"{found['parts']}) and {found['rejected']} rejected",
                hint="this is a defect in subl",
            )


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
                **_parts(spec, name, statistics[name]["parts"]),
            }
            for name, path in shards.items()
        ],
    }


def _parts(spec: FilterSpec, name: str, rows: Sequence[int]) -> dict[str, Any]:
    """The files of kept rows, where there may be several, with the number of rows in each."""
    if spec.output.split_rows is None and spec.output.split_bytes is None:
        return {}
    files = [subl_core.part_name(name, part) for part in range(len(rows))]
    return {"parts": dict(zip(files, rows, strict=True))}


def _files(spec: FilterSpec, name: str, statistics: Statistics) -> list[str]:
    """What a finished shard left."""
    kept = _parts(spec, name, statistics["parts"]).get("parts", [name])
    return [*(f"kept/{file}" for file in kept), f"rejects/{name}"]


def _drop_others(spec: FilterSpec, folder: Path, statistics: Mapping[str, Statistics]) -> None:
    """Remove what a run that was killed left of other inputs, which had more parts."""
    files = {file for name, found in statistics.items() for file in _files(spec, name, found)}
    for part in ("kept", "rejects"):
        for path in (folder / part).iterdir():
            if f"{part}/{path.name}" not in files:
                path.unlink()


def _written(spec: FilterSpec, statistics: Mapping[str, Statistics]) -> dict[str, str]:
    """The digests of all files, as the engine wrote them."""
    return {
        file: digest
        for name, found in statistics.items()
        for file, digest in zip(
            _files(spec, name, found),
            [*found["sha256"]["kept"], found["sha256"]["rejects"]],
            strict=True,
        )
    }


def _rows(figures: Mapping[str, Any]) -> dict[str, int]:
    """How many rows there must be in each file, for the artifact's statement."""
    rows = {}
    for shard in figures["shards"]:
        for file, kept in shard.get("parts", {shard["name"]: shard["kept"]}).items():
            rows[f"kept/{file}"] = kept
        rows[f"rejects/{shard['name']}"] = shard["rejected"]
    return rows


def filter_shards(
    spec: FilterSpec,
    shards: Mapping[str, Path],
    folder: Path,
    jobs: int,
    report: Report,
    *,
    journal_seconds: float = 10.0,
    known: Mapping[Path, Stated | None] | None = None,
    called: Mapping[Path, Path] | None = None,
    comparing: FilterSpec | None = None,
    task: str = "filter",
    notes: str = "",
    finished: Callable[[str], None] = lambda name: None,
    engine: RayEngine | None = None,
) -> dict[str, Statistics]:
    """Filter `shards`, inputs by output name, into `kept/` and `rejects/` of `folder`.

    `task` is what progress calls it. `finished` is called with the name of each shard that this
    call has finished, by the thread that did. What `report` raises ends the work and comes out.
    `known` is what statements say of those inputs that are of artifacts. `called` says what the
    rejects call an input, where that is not its path. `comparing` is for a `spec` with the same
    rules that compare rows as that one, which decides what they compare. `notes` tells apart who
    works in one folder. `engine` is where shards are filtered if not here.
    """
    plan = spec.plan()
    labels = {name: (called or {}).get(path, path) for name, path in shards.items()}
    for part in ("kept", "rejects", _WORK):
        (folder / part).mkdir(exist_ok=True)
    if (folder / ".ray").is_dir():
        from subl.filter.on_ray import wait_for_workers

        wait_for_workers(folder, shards)
    noting = Finished(folder / _WORK, notes)
    done = {
        name: found
        for name, found in noting.found.items()
        if name in shards and all((folder / file).exists() for file in _files(spec, name, found))
    }
    duplicates = None
    if plan.comparisons and len(done) < len(shards):
        duplicates = _find_duplicates(
            (comparing or spec).plan(), shards, list(labels.values()), folder, jobs, report
        )
    meter = Meter(task, shards, report)
    for name, statistics in done.items():
        meter.skip(name, statistics["rows_in"], statistics["kept"])

    positions = {name: position for position, name in enumerate(shards)}
    kept, rejects, unfinished = (str(folder / part) for part in ("kept", "rejects", _WORK))

    def work(name: str, threads: int) -> Statistics:
        reading = Reading(shards[name])
        options: dict[str, Any] = {
            "work": unfinished,
            "journal_seconds": journal_seconds,
            "threads": threads,
            "split_rows": spec.output.split_rows,
            "split_bytes": spec.output.split_bytes,
            "progress": lambda *state: meter.update(name, *state),
            "called": labels[name],
        }
        files = shards[name], f"{kept}/{name}", f"{rejects}/{name}"
        if engine is not None:
            figures = engine.filter_shard(spec, *files, **options)
        else:
            figures = subl_core.filter_shard(
                plan, *files, duplicates=duplicates, shard=positions[name], **options
            )
        statistics: Statistics = json.loads(figures)
        digest = statistics["sha256"]["input"]
        check_stated(shards[name], (known or {}).get(shards[name]), statistics["rows_in"], digest)
        noting.add(name, figures, reading.came_to(digest))
        meter.finish(name, statistics["rows_in"], statistics["kept"])
        finished(name)
        return statistics

    with noting:
        return done | _for_each_shard(shards.keys() - done.keys(), meter, jobs, work)


def _find_duplicates(
    plan: subl_core.Plan,
    shards: Mapping[str, Path],
    labels: list[Path],
    folder: Path,
    jobs: int,
    report: Report,
) -> subl_core.Duplicates:
    meter = Meter("compare", shards, report)
    columns = [folder / _WORK / f"signatures-{rule}" for rule in range(plan.comparisons)]
    for column in columns:
        column.mkdir(exist_ok=True)
    signatures = {name: [column / name for column in columns] for name in shards}

    def work(name: str, threads: int) -> None:
        rows = 0
        if not all(path.exists() for path in signatures[name]):
            rows = subl_core.sign_shard(
                plan,
                shards[name],
                signatures[name],
                folder / _WORK / "making",
                threads=threads,
                progress=lambda *state: meter.update(name, *state),
            )
        meter.finish(name, rows, 0)

    _for_each_shard(shards.keys(), meter, jobs, work)
    try:
        return subl_core.Duplicates(plan, labels, list(signatures.values()), jobs)
    except subl_core.FilterError as error:
        raise InputError(str(error)) from error


def _for_each_shard(
    names: Collection[str], meter: Meter, jobs: int, work: Callable[[str, int], T]
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


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        for key, count in each.items():
            total[key] += count
    return dict(sorted(total.items()))
