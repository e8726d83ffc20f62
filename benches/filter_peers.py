"""How fast the filter is, against the tools that people filter rows with, on the same bytes.

    pip install -r benches/requirements.txt
    python benches/filter_peers.py [--gigabytes 1] [--only NAME ...] [--json FILE]

All systems read one file and write the kept rows to another, one after another. The best of three
counts, or of as many as fit into half a minute. Each is measured in a process of its own that is
pinned to its cores, after its imports; a command (`--only commands`) from its start to its end.
Systems below about 30 MB/s get the first megabytes of the file only; the table says so. Where
answers must agree, the numbers of kept rows are compared, and a difference is an error. MB/s are
those of the JSON lines read, also for compressed files. Inputs are made once, in `--scratch`;
`filter_inputs` says from what, `filter_tasks` what is measured, `filter_systems` and
`filter_commands` how each system is called.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

try:
    import filter_commands as commands
    import filter_inputs as inputs
    import filter_systems as systems
    import filter_tasks as tasks
    import package_texts
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: {missing}\nhint: pip install ./rust/bindings -r benches/requirements.txt"
    ) from missing

ROOT = Path(__file__).parent.parent
MOST_SECONDS = 30.0
NAMES = (*tasks.NAMES, "startup")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    task: str
    system: str
    cores: int
    input_megabytes: float
    megabytes_per_second: float
    subl_is: float | None
    kept: int
    busy: float
    """CPU seconds a second and core: below 1 the system waited, or the machine had other work."""
    cpu_megabytes_per_second: float


# --- Measuring


@dataclass(frozen=True)
class Measured:
    seconds: float
    cpu_seconds: float
    kept: int


def measure(system: systems.System, source: Path, cores: int, runs: int = 3) -> Measured:
    """The fastest run. Rows are counted, and files removed, off the clock; what a system noted
    about the rows in an earlier run is made worthless by another time of change."""
    best: Measured | None = None
    spent = 0.0
    while runs > 0 and spent < MOST_SECONDS:
        os.utime(source)
        with tempfile.TemporaryDirectory(dir=source.parent) as folder:
            out = Path(folder) / ("kept" + "".join(source.suffixes[-2:]))
            cpu, started = cpu_seconds(), time.perf_counter()
            said = system(source, out, cores)
            seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
            kept = inputs.count_rows(out)
        assert said is None or said == kept, f"says {said} rows, wrote {kept}"
        if best is None or seconds < best.seconds:
            best = Measured(seconds, cpu, kept)
        spent += seconds
        runs -= 1
    assert best is not None
    return best


def cpu_seconds() -> float:
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def in_own_process(system: systems.System, source: Path, cores: int, runs: int = 3) -> Measured:
    systems.limit_threads(cores)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=pin, initargs=(cores,)) as pool:
        return pool.submit(measure, system, source, cores, runs).result()


def pin(cores: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def run_all(runs: Iterable[tasks.Run]) -> Iterator[Row]:
    speeds: dict[tuple[str, int], float] = {}
    kept: dict[tuple[str, Path], int] = {}
    for run in runs:
        source = inputs.prefix(run.source, run.part_of_file) if run.part_of_file else run.source
        measured = in_own_process(run.system, source.path, run.cores)
        speed = source.json_bytes / measured.seconds / 1e6
        if run.name == "subl":
            speeds[run.task, run.cores] = speed
        subl = speeds.get((run.task, run.cores))
        if run.agrees:
            key = (run.task, source.path)
            if run.reference and key not in kept:
                kept[key] = in_own_process(run.reference, source.path, 1, runs=1).kept
            expected = kept.setdefault(key, measured.kept)
            if measured.kept != expected:
                raise SystemExit(
                    f"error: {run.task}: {run.name} keeps {measured.kept} rows, not {expected}"
                )
        yield Row(
            run.task,
            run.name if source is run.source else f"{run.name} (first {run.part_of_file:.0f} MB)",
            run.cores,
            source.json_bytes / 1e6,
            speed,
            subl / speed if subl and run.name != "subl" else None,
            measured.kept,
            measured.cpu_seconds / measured.seconds / run.cores,
            source.json_bytes / measured.cpu_seconds / 1e6,
        )


# --- Starting


def startup_rows(scratch: Path) -> Iterator[tuple[str, float]]:
    """(what, milliseconds): processes that filter one row, best of ten."""
    words = ["wolf"]
    started: dict[str, systems.System] = {
        "subl filter": partial(commands.subl, tasks.regex_rule(words)),
        "python -c pass": commands.nothing,
        "python, Polars": partial(commands.polars, commands.polars_union(words)),
        "python, DuckDB": partial(commands.duckdb, systems.duckdb_union(words)),
        "ripgrep": partial(systems.ripgrep, words),
    }
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        row = Path(folder) / "row.jsonl"
        row.write_text('{"id": "1", "prompt": "Write on.", "completion": "An owl."}\n')
        for what, system in started.items():
            yield what, measure(system, row, 1, runs=10).seconds * 1e3


def compile_rows(words: Sequence[str]) -> Iterator[tuple[str, float]]:
    patterns = [rf"\b{word}(s|es)?\b" for word in words[:1000]]
    yield "subl, plan of 1,000 regexes", best_of_ten(lambda _: systems.compile_plan(patterns))
    yield "Python's re, one union of 1,000", best_of_ten(lambda _: systems.compile_re(patterns))


def best_of_ten(work: Callable[[int], object]) -> float:
    times = []
    for n in range(10):
        started = time.perf_counter()
        work(n)
        times.append(time.perf_counter() - started)
    return min(times) * 1e3


# --- The tables


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| task | system | cores | MB/s | subl is | rows kept |"
    yield "|---|---|--:|--:|--:|--:|"
    last = None
    for row in rows:
        task, last = row.task if row.task != last else "", row.task
        kept = f"{row.kept:,}" if row.kept else ""
        ratio = f"{row.subl_is:.{1 if row.subl_is >= 2 else 2}f}x" if row.subl_is else ""
        speed = f"{row.megabytes_per_second:.{0 if row.megabytes_per_second >= 100 else 1}f}"
        yield (f"| {task} | {row.system} | {row.cores} | {speed} | {ratio} | {kept} |")


def warnings(rows: Sequence[Row]) -> Iterator[str]:
    if waited := [row for row in rows if row.busy < 0.8]:
        least = min(row.busy for row in waited)
        yield (
            f"\n{len(waited)} of {len(rows)} rows used less than 80 % of their cores' time (down "
            f"to {least:.0%}): they waited, or the machine had other work."
        )


def machine() -> str:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    model = models[0] if models else platform.machine()
    return f"{tasks.ALL_CORES} cores of {model}, {memory:.0f} GiB, {system}, {python}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of each input")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of: " + ", ".join(NAMES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("--scratch", type=Path, default=ROOT / "out" / "benches")
    options = parser.parse_args()
    only = set(options.only or NAMES)
    if unknown := only - set(NAMES):
        parser.error(f"no {', '.join(unknown)}; there is {', '.join(NAMES)}")
    scratch = options.scratch.resolve()
    listed = tasks.tasks(scratch, options.gigabytes)
    times: list[tuple[str, float]] = []
    if "startup" in only:
        words = inputs.rare_words(scratch).read_text().split()
        times = [*startup_rows(scratch), *compile_rows(words)]
    rows = []
    for row in run_all(run for name, runs in listed.items() if name in only for run in runs()):
        package_texts.note(
            f"{row.task}: {row.system}, {row.cores}: {row.megabytes_per_second:.1f} MB/s"
        )
        rows.append(row)
    print(f"{machine()}.\n{systems.versions()}.\nRows are made of {package_texts.named()}.\n")
    print("\n".join([*table(rows), *warnings(rows)]))
    if times:
        print("\n| start | ms |\n|---|--:|")
        print("\n".join(f"| {what} | {milliseconds:.1f} |" for what, milliseconds in times))
    if options.json:
        report = {
            "machine": machine(),
            "versions": systems.versions(),
            "rows": [asdict(row) for row in rows],
            "milliseconds": dict(times),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
