"""What jobs print, as they print it; and their end, where somebody wants it."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from subl.errors import InputError, StageError
from subl.slurm.book import Book
from subl.slurm.client import Client
from subl.slurm.status import TaskState
from subl.slurm.work import REQUEUED

LOOK_SECONDS = 0.5
ASK_SECONDS = 30.0
"""How often to ask Slurm whether a job is still there that says nothing."""


def chosen(states: Sequence[TaskState], asked: Sequence[str]) -> list[TaskState]:
    """The tasks that are asked for, by their names, parts of these, or numbers in their array.

    Raises:
        InputError: there is no such task.
    """
    found: dict[str, TaskState] = {} if asked else {each.task: each for each in states}
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


def cancel(states: Sequence[TaskState], client: Client | None = None) -> list[TaskState]:
    """End those of the tasks that wait or run; these.

    Raises:
        StageError: Slurm does not answer.
    """
    ending = [each for each in states if each.state in ("waiting", "running") and each.job]
    if not ending and any(each.state == "unknown" for each in states):
        raise StageError(
            "Slurm does not say which jobs there are", hint="try again later; nothing was ended"
        )
    client = client or Client()
    client.cancel(
        [(each.submission.cluster, each.job) for each in ending if each.submission and each.job]
    )
    return ending


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
