"""What commands print: progress to stderr, results to stdout, as text or JSON."""

from __future__ import annotations

import codecs
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    import rich.progress

    from subl.artifact import Artifact

Command = TypeVar("Command", bound=Callable[..., Any])

PLAIN_INTERVAL_SECONDS = 5.0
"""Off a terminal, a line at most this often for one task (and for its first and last step)."""


EVENT_INTERVAL_SECONDS = 0.5
"""As JSON, an event at most this often for one task (and for its first and last step)."""

PACE_SECONDS = 0.5
"""A pace is known after this time."""


@contextmanager
def progress(form: str = "auto") -> Iterator[Report]:
    """Long work: a report that draws a bar on a terminal, with rich, and writes plain lines
    elsewhere; and where a job asks for it, a heartbeat. Signals that ask to stop end the work with
    a `StoppedError`, unless it collects them itself.

    `form` is what `--progress` takes: `json` writes an event a line, `none` nothing.
    """
    from subl.cluster.heartbeat import Heartbeat
    from subl.cluster.launch import stopped_by_signals

    printer = None if form == "none" else _Events() if form == "json" else _for_a_person()
    told = [each for each in (printer, Heartbeat.asked_for(os.environ)) if each is not None]

    def report(progress: Progress) -> None:
        for each in told:
            each.report(progress)

    with stopped_by_signals():
        try:
            yield report if told else silent
        finally:
            for each in told:
                each.end()


def print_json(value: object) -> None:
    """One JSON document to stdout, in UTF-8 or, where the locale has another encoding, in ASCII.

    What a terminal might obey is written as an escape.
    """
    is_utf8 = codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name == "utf-8"
    text = json.dumps(value, indent=2, ensure_ascii=not is_utf8)
    lines = text.split("\n")
    click.echo("\n".join(line if line.isprintable() else _escaped_json(line) for line in lines))


def print_values(value: object, as_json: bool) -> None:
    """Nested values for a person, a line each with dotted keys; or as JSON."""
    if as_json:
        print_json(value)
        return
    for line in _dotted("", value):
        click.echo(printable(line))


def _dotted(prefix: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _dotted(f"{prefix}.{key}" if prefix else key, each)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, each in enumerate(value):
            yield from _dotted(f"{prefix}[{index}]", each)
    else:
        yield f"{prefix} = {json.dumps(value, ensure_ascii=False)}"


def printable(text: str) -> str:
    """`text` on one line, with escapes for all that a terminal obeys, hides or reorders.

    Rows are written by models: nothing of them may reach a terminal by another way.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def size(count: float) -> str:
    """A number of bytes for a person: `1.5 GB` are 1.5 * 10**9."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{count:.3g} {unit}"


_DAYS = 5
"""That are hours up to here."""


def duration(seconds: float) -> str:
    """A time for a person: `41 s`, `3 min 5 s`, `2 h 40 min`, `12 days`, `3 years`."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    if minutes < _DAYS * 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    days = minutes // (24 * 60)
    return f"{days:,} days" if days < 2 * 365 else f"{days // 365:,} years"


def about(seconds: float) -> str:
    """An estimated time for a person, no finer than it is known: `about 8 min 30 s`."""
    if seconds < 60:
        rounded = 5 * round(seconds / 5)
        return f"about {rounded} s" if rounded else "a few seconds"
    rounded = 10 * round(seconds / 10) if seconds < 600 else 60 * round(seconds / 60)
    return f"about {duration(rounded).removesuffix(' 0 s').removesuffix(' 0 min')}"


def print_artifact(artifact: Artifact, as_json: bool) -> None:
    """What a stage made, and where."""
    if as_json:
        print_json(
            {
                "path": str(artifact.path),
                "kind": artifact.kind,
                "key": artifact.key,
                "digest": artifact.digest,
                "reused": artifact.reused,
                "seconds": artifact.seconds,
                "result": artifact.result,
            }
        )
        return
    state = "already done" if artifact.reused else f"{artifact.seconds:.1f} s"
    click.echo(f"{printable(str(artifact.path))}  sha256:{artifact.digest[:12]}  ({state})")


def table(rows: Sequence[Sequence[str]], header: Sequence[str], left: Sequence[int] = (0,)) -> str:
    """Columns as wide as they need: `left` ones to the left, figures to the right. On a terminal,
    with rich, cells that do not fit are wrapped."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and (drawn := _drawn_table(rows, header, left)) is not None:
        return drawn
    lines = [list(header), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _drawn_table(
    rows: Sequence[Sequence[str]], header: Sequence[str], left: Sequence[int]
) -> str | None:
    """The table as rich draws it; None where it is not installed, or the terminal is a dumb one."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        return None
    console = Console()
    if console.is_dumb_terminal:
        return None
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column, name in enumerate(header):
        drawn.add_column(Text(name), justify="left" if column in left else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))  # no cell is markup
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip("\n")


def json_option(command: Command) -> Command:
    """`--json`: results as one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        command
    )


def out_option(command: Command) -> Command:
    """`-o OUT`: the artifact to make."""
    return click.option(
        "-o",
        "--out",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder to make. Absent or complete; never overwritten.",
    )(command)


def dry_run_option(command: Command) -> Command:
    """`--dry-run`: check and show, write nothing."""
    return click.option(
        "--dry-run", is_flag=True, help="Check everything and show it; write nothing."
    )(command)


def progress_option(command: Command) -> Command:
    """`--progress`: how to say on stderr how far the work is."""
    return click.option(
        "--progress",
        "progress_form",
        type=click.Choice(["auto", "json", "none"]),
        default="auto",
        show_default=True,
        help="On stderr: a bar on a terminal and lines elsewhere, or JSON events, or nothing. "
        "Bytes and MB/s are those of the files as they are, compressed or not.",
    )(command)


def jobs_option(command: Command) -> Command:
    """`-j JOBS`: how many threads or processes; the command gets a number."""
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(min=1),
        callback=lambda context, option, given: given or os.cpu_count() or 1,
        help="Threads  [default: one a core]",
    )(command)


class _Pace:
    """When the task began, and how fast it is since."""

    def __init__(self) -> None:
        self.task = ""
        self.started = 0.0
        self._first = 0

    def take(self, progress: Progress) -> bool:
        """Whether this is the first of a task."""
        if progress.task == self.task:
            return False
        self.task, self.started = progress.task, time.monotonic()
        self._first = progress.done - progress.skipped
        return True

    def per_second(self, progress: Progress) -> float | None:
        seconds = time.monotonic() - self.started
        done = progress.done - progress.skipped - self._first
        return done / seconds if seconds >= PACE_SECONDS and done > 0 else None

    def text(self, progress: Progress) -> str:
        """`, 812 MB/s, 3 s left`, as far as it is known."""
        pace = self.per_second(progress)
        if pace is None:
            return ""
        speed = f", {size(pace)}/s" if progress.unit == "bytes" else ""
        if not progress.total or progress.done == progress.total:
            return speed
        return f"{speed}, {duration((progress.total - progress.done) / pace)} left"

    def of_run(self, progress: Progress) -> float | None:
        """Seconds that are left of the run, as it says, but not less than this task says."""
        left, pace = progress.run_seconds_left, self.per_second(progress)
        if left is None or pace is None or progress.total is None or progress.task == "run":
            return left
        return max(left, (progress.total - progress.done) / pace)


class _Events:
    def __init__(self) -> None:
        self._pace = _Pace()
        self._printed = 0.0

    def report(self, progress: Progress) -> None:
        now, first = time.monotonic(), self._pace.take(progress)
        last = progress.done == progress.total
        if not (first or last or now - self._printed >= EVENT_INTERVAL_SECONDS):
            return
        self._printed = now
        pace = self._pace.per_second(progress)
        event = {
            "event": "progress",
            "task": progress.task,
            "done": progress.done,
            "total": progress.total,
            "unit": progress.unit,
            **progress.figures,
            "seconds": round(max(0.0, now - self._pace.started), 3),
            "per_second": None if pace is None else round(pace),
            "seconds_left": (
                None
                if pace is None or progress.total is None
                else round((progress.total - progress.done) / pace, 1)
            ),
        }
        if (left := self._pace.of_run(progress)) is not None:
            event["run_seconds_left"] = round(left, 1)
        say(json.dumps(event))

    def end(self) -> None:
        pass


class _Lines:
    def __init__(self) -> None:
        self._task = self._text = ""
        self._printed = 0.0
        self._pace = _Pace()

    def report(self, progress: Progress) -> None:
        self._pace.take(progress)
        now, text = time.monotonic(), _text(progress)
        first, last = progress.task != self._task, progress.done == progress.total
        if text != self._text and (first or last or now - self._printed >= PLAIN_INTERVAL_SECONDS):
            say(text + self._pace.text(progress) + _of_the_run(progress, self._pace))
            self._task, self._text, self._printed = progress.task, text, now

    def end(self) -> None:
        pass


def _for_a_person() -> _Bar | _Lines:
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        with suppress(ImportError):
            return _Bar()
    return _Lines()


class _Bar:
    """A bar that rich draws, one a task. Where rich is not installed, making one is an error."""

    def __init__(self) -> None:
        import rich.progress  # noqa: F401

        self._pace = _Pace()
        self._drawn: rich.progress.Progress | None = None

    def report(self, progress: Progress) -> None:
        if self._pace.take(progress):
            self.end()
            self._drawn = self._started()
        assert self._drawn is not None
        line = _text(progress) + self._pace.text(progress)
        if left := self._pace.of_run(progress):  # first: long lines are cut
            line = f"run: {about(left)} left  {line}"
        self._drawn.update(
            self._drawn.task_ids[0],
            description=line,
            completed=progress.done,
            total=progress.total,
        )

    def _started(self) -> rich.progress.Progress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        text = Column(no_wrap=True, overflow="ellipsis")
        drawn = Bars(
            BarColumn(24),
            # What is in a line is no markup of rich's.
            TextColumn("{task.description}", markup=False, table_column=text),
            console=Console(stderr=True),
            redirect_stdout=False,
            redirect_stderr=False,
        )
        drawn.add_task("")
        drawn.start()
        return drawn

    def end(self) -> None:
        """Leave the bar as it is, and give the cursor back."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None


def say(text: str, *, nl: bool = True) -> None:
    """Write to stderr, if anybody reads it: work does not end because it is unheard."""
    try:
        click.echo(text, nl=nl, err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def say_error(message: str, hint: str | None) -> None:
    """An error and what to do about it; ranks' logs and rows may be in the message."""
    shown = "\n".join(map(printable, message.split("\n")))
    say(f"{click.style('error', fg='red', bold=True)}: {shown}")
    if hint:
        say_hint(hint)


def say_hint(hint: str) -> None:
    """What to do next."""
    say(f"{click.style('hint', fg='cyan', bold=True)}: {hint}")


def _text(progress: Progress) -> str:
    if progress.unit == "bytes":
        total = "" if progress.total is None else f" of {size(progress.total)}"
        count = f"{size(progress.done)}{total}"
    else:
        total = "" if progress.total is None else f"/{progress.total}"
        count = f"{progress.done}{total} {progress.unit}"
    note = f", {progress.note}" if progress.note else ""
    return printable(f"{progress.task}: {count}{note}")


def _of_the_run(progress: Progress, pace: _Pace) -> str:
    """What is left of the run: of this task if it is that, or beside what this task says."""
    left = pace.of_run(progress)
    if not left:
        return ""
    return f"{', ' if progress.task == 'run' else '; run: '}{about(left)} left"


def _escaped_json(line: str) -> str:
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)
