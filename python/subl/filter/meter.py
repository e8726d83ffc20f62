"""Adds up the progress of shards that run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from subl.progress import Progress, Report


class Stopped(Exception):
    """Ends a shard whose result nobody waits for any more."""


class Meter:
    """How far all shards of a pass are. The sums are kept, so that a note costs the same however
    many shards there are."""

    def __init__(self, task: str, shards: Mapping[str, Path], report: Report) -> None:
        self.stop = threading.Event()
        self.sizes = {name: path.stat().st_size for name, path in shards.items()}
        self._task = task
        self._report = report
        self._lock = threading.Lock()
        self._states: dict[str, tuple[int, int, int, int]] = {}
        self._total = sum(self.sizes.values())
        self._sums = (0, 0, 0, 0)

    def skip(self, name: str, rows: int, kept: int) -> None:
        """Take note of a shard that an earlier run has finished. Nothing is reported yet."""
        self._add(name, (self.sizes[name], rows, kept, self.sizes[name]))

    def update(self, name: str, bytes_read: int, rows: int, kept: int, skipped: int) -> None:
        """Take note of one shard, and report the sum of all. Raises what ends the shard.

        What is read is not yet done: only a finished shard counts to its last byte. `skipped` bytes
        are those that an earlier run had worked on.
        """
        most = max(0, self.sizes[name] - 1)
        self._note(name, (min(bytes_read, most), rows, kept, min(skipped, most)))

    def finish(self, name: str, rows: int, kept: int) -> None:
        """Take note of a finished shard."""
        skipped = self._states.get(name, (0, 0, 0, 0))[3]
        self._note(name, (self.sizes[name], rows, kept, skipped))

    def _add(self, name: str, state: tuple[int, int, int, int]) -> None:
        before = self._states.get(name, (0, 0, 0, 0))
        self._states[name] = state
        done, rows, kept, skipped = (
            total + now - then for total, now, then in zip(self._sums, state, before, strict=True)
        )
        self._sums = (done, rows, kept, skipped)

    def _note(self, name: str, state: tuple[int, int, int, int]) -> None:
        if self.stop.is_set():
            raise Stopped
        with self._lock:
            self._add(name, state)
            done, rows, kept, skipped = self._sums
            figures = {"rows": rows} if self._task == "compare" else {"rows": rows, "kept": kept}
            note = f"{rows:,} rows"
            if "kept" in figures and rows:
                note += f", {100 * kept / rows:.1f} % kept"
            self._report(
                Progress(self._task, done, self._total, "bytes", note, figures, skipped=skipped)
            )
