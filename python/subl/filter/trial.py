"""How fast a filter is on this machine and these files, found out by beginning the work.

The files are filtered as a run would filter them, for a limited time, into a temporary folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from subl.filter.run import filter_shards
from subl.filter.spec import FilterSpec
from subl.progress import Progress


@dataclass(frozen=True)
class Trial:
    """What was done in `seconds`. `file_bytes` are as in the files, compressed or not."""

    seconds: float
    file_bytes: int
    rows: int
    kept: int

    @property
    def file_bytes_per_second(self) -> float:
        return self.file_bytes / self.seconds

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def trial(
    spec: FilterSpec, shards: Mapping[str, Path], *, jobs: int, limit_seconds: float
) -> Trial:
    """Filter `shards` (inputs by output name) until they are done or the time is over.

    Where rules compare rows, their pass over all shards comes first and is not limited; its time
    does not count.
    """
    spec.plan()
    started = time.perf_counter()
    last = Trial(0.0, 0, 0, 0)

    def watch(progress: Progress) -> None:
        nonlocal started, last
        now = time.perf_counter()
        if progress.task == "compare":
            started = now
            return
        last = Trial(now - started, progress.done, progress.figures["rows"], _kept(progress))
        if last.seconds >= limit_seconds and 0 < progress.done < (progress.total or 0):
            raise _Enough

    with tempfile.TemporaryDirectory(prefix="subl-trial-") as folder:
        try:
            filter_shards(spec, shards, Path(folder), jobs, watch)
        except _Enough:
            return last
    # To the end: syncing the files is part of it.
    return Trial(time.perf_counter() - started, last.file_bytes, last.rows, last.kept)


def _kept(progress: Progress) -> int:
    return progress.figures.get("kept", 0)


class _Enough(Exception):
    """The time is over."""
