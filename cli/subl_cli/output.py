"""What commands print: progress to stderr, results to stdout, as text or JSON."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from subl.progress import Progress, Report

if TYPE_CHECKING:
    from subl.artifact import Artifact

Command = TypeVar("Command", bound=Callable[..., Any])

PLAIN_INTERVAL_SECONDS = 5.0
"""Off a terminal, a line at most this often for one task (and for its first and last step)."""


@contextmanager
def progress() -> Iterator[Report]:
    """A report that draws a bar on a terminal and writes plain lines elsewhere."""
    printer = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        yield printer.report
    finally:
        printer.end()


def print_json(value: object) -> None:
    """One JSON document to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


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
    click.echo(f"{artifact.path}  sha256:{artifact.digest[:12]}  ({state})")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Columns as wide as they need: the first to the left, figures to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


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


class _Lines:
    def __init__(self) -> None:
        self._task = self._text = ""
        self._printed = 0.0

    def report(self, progress: Progress) -> None:
        now, text = time.monotonic(), _text(progress)
        first, last = progress.task != self._task, progress.done == progress.total
        if text != self._text and (first or last or now - self._printed >= PLAIN_INTERVAL_SECONDS):
            click.echo(text, err=True)
            self._task, self._text, self._printed = progress.task, text, now

    def end(self) -> None:
        pass


class _Bar:
    def __init__(self) -> None:
        self._task = ""
        self._started = 0.0
        self._first = 0

    def report(self, progress: Progress) -> None:
        if progress.task != self._task:
            self.end()
            self._task, self._started = progress.task, time.monotonic()
            self._first = progress.done
        line = _text(progress)
        if progress.total:
            filled = round(24 * progress.done / progress.total)
            line = f"[{'=' * filled}{' ' * (24 - filled)}] {line}{self._left(progress)}"
        width = shutil.get_terminal_size().columns - 1
        click.echo(f"\r\x1b[2K{line[:width]}", nl=False, err=True)

    def _left(self, progress: Progress) -> str:
        gone = progress.done - self._first
        if not progress.total or gone <= 0 or progress.done == progress.total:
            return ""
        seconds = (time.monotonic() - self._started) / gone * (progress.total - progress.done)
        return f", {seconds:.0f} s left"

    def end(self) -> None:
        if self._task:
            click.echo("", err=True)
            self._task = ""


def _text(progress: Progress) -> str:
    total = "" if progress.total is None else f"/{progress.total}"
    note = f", {progress.note}" if progress.note else ""
    return f"{progress.task}: {progress.done}{total} {progress.unit}{note}"
