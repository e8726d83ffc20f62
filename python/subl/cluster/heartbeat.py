"""A sign of life in a file: how far work is, for somebody who only sees files.

Where the environment names a file, commands write to it what they also tell a person.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from subl.artifact import write_atomically
from subl.cluster.placement import placement
from subl.errors import OutputError
from subl.progress import Progress

VARIABLE = "SUBL_HEARTBEAT"
"""Environment variable: the file to write to."""

BEAT_SECONDS = 10.0


@dataclass(frozen=True)
class Beat:
    """How far work was at a moment (UTC). `seconds_left` is an estimate of then."""

    time: str
    host: str
    task: str
    done: int
    total: int | None
    unit: str
    note: str = ""
    seconds_left: float | None = None


def now() -> str:
    """The moment, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_beat(file: Path) -> Beat | None:
    """The last sign of life; None where there is none."""
    try:
        return Beat(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Heartbeat:
    """Writes what it is told, at most every `BEAT_SECONDS`, and the last of it at the end."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._lock = threading.Lock()
        self._last: Progress | None = None
        self._began = (0.0, 0)
        self._written = float("-inf")

    @staticmethod
    def asked_for(environment: Mapping[str, str]) -> Heartbeat | None:
        """The one that the environment asks for; of several ranks only the first has one."""
        if VARIABLE not in environment or placement(environment, Path()).rank:
            return None
        return Heartbeat(Path(environment[VARIABLE]))

    def report(self, progress: Progress) -> None:
        """Take note. Called from any thread."""
        with self._lock:
            if self._last is None or progress.task != self._last.task:
                self._began = (self._clock(), progress.done - progress.skipped)
            self._last = progress
            if self._clock() - self._written >= BEAT_SECONDS:
                self._write(progress)

    def end(self) -> None:
        """Write the last that was heard."""
        with self._lock:
            if self._last is not None:
                self._write(self._last)

    def _write(self, progress: Progress) -> None:
        self._written = self._clock()
        beat = Beat(
            now(),
            platform.node(),
            progress.task,
            progress.done,
            progress.total,
            progress.unit,
            progress.note,
            self._left(progress),
        )
        try:
            write_atomically(self._file, json.dumps(asdict(beat)))
        except OutputError as error:  # the work itself is not the worse for it
            os.write(2, f"{error.message}\n".encode())

    def _left(self, progress: Progress) -> float | None:
        if progress.run_seconds_left is not None:
            return progress.run_seconds_left
        began, first = self._began
        done = progress.done - progress.skipped - first
        if progress.total is None or done <= 0:
            return None
        return round((self._clock() - began) / done * (progress.total - progress.done), 1)
