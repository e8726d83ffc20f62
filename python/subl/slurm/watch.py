"""What jobs print, as they print it; and their end, where somebody wants it."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from subl.errors import InputError
from subl.slurm.book import Book
from subl.slurm.client import Client
from subl.slurm.queue import handed_in
from subl.slurm.status import TaskState
from subl.slurm.work import REQUEUED

LOOK_SECONDS = 0.5
ASK_SECONDS = 30.0
"""How often to ask Slurm whether a job is still there that says nothing."""


class Task(Protocol):
    """What has a name, and a number in its array."""

    @property
    def task(self) -> str: ...
    @property
    def index(self) -> int | None: ...


TaskT = TypeVar("TaskT", bound=Task)


def chosen(states: Sequence[TaskT], asked: Sequence[str]) -> list[TaskT]:
    """The tasks that are asked for, by their names, parts of these, or numbers in their array.

    Raises:
        InputError: there is no such task.
    """
    found: dict[str, TaskT] = {} if asked else {each.task: each for each in states}
    for name in asked:
        fits = [each for each in states if name in (each.task, str(each.index))]
        fits = fits or [each for each in states if name in each.task]
        if not fits:
            raise InputError(f"no task `{name}`", hint="subl slurm status lists them")
        found |= {each.task: each for each in fits}
    return list(found.values())


def lines_of(log: Path, rank: int | None) -> list[str]:
    """What a task has printed; of one rank, or of all."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return list(_of_rank(text.splitlines(), rank))


def follow(
    book: Book,
    states: Sequence[TaskState],
    rank: int | None,
    look: Callable[[], Sequence[TaskState]],
) -> Iterator[tuple[TaskState, str]]:
    """Lines of tasks as they come, until all of them have ended; `look` says where they stand."""
    asked = time.monotonic()
    read = {each.task: 0 for each in states}
    left = {each.task: "" for each in states}
    text = {each.task: codecs.getincrementaldecoder("utf-8")("replace") for each in states}
    while True:
        if time.monotonic() - asked >= ASK_SECONDS:
            now = {each.task: each for each in look()}
            states = [now.get(each.task, each) for each in states]
            asked = time.monotonic()
        going = [each for each in states if _goes_on(book, each)]
        for each in states:
            log = _log(book, each)
            data = b""
            if log is not None and log.exists():
                with log.open("rb") as file:
                    file.seek(read[each.task])
                    data = file.read()
            read[each.task] += len(data)
            come = left[each.task] + text[each.task].decode(data, final=not going)
            *lines, left[each.task] = come.split("\n")
            for line in _of_rank(lines, rank):
                yield each, line
        if not going:
            for each in states:
                yield from ((each, line) for line in _of_rank([left[each.task]], rank) if line)
            return
        time.sleep(LOOK_SECONDS)


def cancel(
    book: Book, asked: Sequence[str] = (), client: Client | None = None
) -> list[tuple[str, str]]:
    """End those of a book's jobs that wait or run, of all submissions; these tasks, with their jobs
    as Slurm calls them.

    Args:
        asked: of which tasks, as of `chosen`.

    Raises:
        InputError: there is no such task.
        StageError: Slurm does not answer.
    """
    client = client or Client()
    tasks = handed_in(book, client)
    names = {each.task for each in chosen(tasks, asked)}
    ending = [(each.task, each.job) for each in tasks if each.task in names and each.job]
    client.cancel([job for _, job in ending])
    return [(task, number) for task, (_, number) in ending]


def _goes_on(book: Book, state: TaskState) -> bool:
    if state.submission is None or state.state not in ("running", "waiting"):
        return False
    lives = book.lives(state.submission.number, state.index)
    ended = bool(lives) and lives[-1].ended is not None and lives[-1].then != REQUEUED
    return not ended


def _log(book: Book, state: TaskState) -> Path | None:
    return None if state.submission is None else book.log(state.submission.number, state.index)


_LABEL = re.compile(r" *(\d+): ")


def _of_rank(lines: Sequence[str], rank: int | None) -> Iterator[str]:
    """Where srun labels lines, those of a rank without it."""
    for line in lines:
        found = _LABEL.match(line)
        if rank is None:
            yield line
        elif found and int(found[1]) == rank:
            yield line[found.end() :]
