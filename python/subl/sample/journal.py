"""Answers that cannot be made again are written down as they come: they cost money or time.

A journal is the answers to one list of requests, a line each. Who asks for the same requests again
is given those, and only the others are asked for, those that failed among them.
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from subl.errors import BusyError, StageError
from subl.sample.backend import Answer, Backend, Request, kept

_LOOKED_AT = 100
"""Requests before which a share of them is not taken for the share of all."""

_EXAMPLES = 3


class Failures:
    """Counts requests that fail, to stop a run of `total` before it has paid for all."""

    def __init__(self, share: float, total: int) -> None:
        self._share = share
        self._least = min(total, _LOOKED_AT)
        self._asked = self._failed = 0
        self._examples: list[str] = []

    def add(self, name: str, failure: str | None) -> None:
        """One more was asked for, and failed for this reason or not.

        Raises:
            StageError: too many have failed; says how.
        """
        self._asked += 1
        if failure is None:
            return
        self._failed += 1
        self._examples = [*self._examples, f"{name}: {failure}"][:_EXAMPLES]
        if self._failed > self._share * max(self._asked, self._least):
            raise StageError(
                f"{self._failed} of {self._asked} requests have failed, and backend.failed_share "
                f"is {self._share:g}:\n  " + "\n  ".join(self._examples),
                hint="what was answered is kept; the same command asks for the rest again"
                if self._failed < self._asked
                else "none was answered: backend.model, neutral, leave_out, extra_body and "
                "grammars say what each request holds",
            )


def answered(
    backend: Backend, requests: Sequence[Request], journal: Path, failures: Failures
) -> Generator[tuple[int, Answer], None, None]:
    """As `Backend.answers`, with what `journal` has, and written there before it is handed on.

    What depends on nothing but the request is not written: it is made again.

    Raises:
        StageError: see `Failures`.
        BusyError: another process asks for them.
    """
    if backend.same_answers:
        yield from backend.answers(requests)
        return
    with alone_in(journal) as file:
        known = {number: each for number, each in _answers(lines_in(file)) if not each.failed}
        left = []
        for place, request in enumerate(requests):
            if request.number in known:
                yield place, known[request.number]
            else:
                left.append(place)

        def write(index: int, answer: Answer) -> None:
            write_line(file, {"number": requests[left[index]].number, **asdict(answer)})

        answering = backend.answers([requests[place] for place in left])
        with closing(kept(answering, write)) as came:
            for index, answer in came:
                failures.add(requests[left[index]].name, answer.text if answer.failed else None)
                yield left[index], answer


@contextmanager
def alone_in(journal: Path) -> Iterator[BinaryIO]:
    """The journal, to be added to by this process alone; a line that was cut off is removed."""
    with journal.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"another process asks for what {journal} is of", hint="wait for it, or stop it"
            ) from error
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        yield file


def write_line(file: BinaryIO, line: dict[str, Any]) -> None:
    """One more, which is there if the process is killed behind it."""
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()


def lines_of(journal: Path) -> list[dict[str, Any]]:
    """Whatever was written; a line that was cut off does not count."""
    if not journal.exists():
        return []
    with journal.open("rb") as file:
        return lines_in(file)


def lines_in(file: BinaryIO) -> list[dict[str, Any]]:
    """The same, of an open journal."""
    file.seek(0)
    return [json.loads(line) for line in file.read().split(b"\n")[:-1]]


def journaled(journal: Path) -> list[tuple[int, Answer]]:
    """Whatever was answered, by the requests' numbers."""
    return _answers(lines_of(journal))


def _answers(lines: Sequence[dict[str, Any]]) -> list[tuple[int, Answer]]:
    return [(line.pop("number"), Answer(**line)) for line in lines]


def usage_of(journal: Path) -> Counter[str]:
    """What all answers in it took, also those that failed and were asked for again."""
    total: Counter[str] = Counter()
    for _, answer in journaled(journal):
        total.update(answer.usage)
    return total
