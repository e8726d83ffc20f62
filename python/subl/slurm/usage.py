"""What ended jobs used of what they asked for: by the accounting where there is one, else by what
each job wrote down of itself, which knows nothing of ranks on other machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from subl.slurm.book import Book, Life
from subl.slurm.client import Client, Row
from subl.slurm.spec import seconds_of
from subl.slurm.status import TaskState, since


@dataclass(frozen=True)
class Usage:
    """Of one task: seconds, bytes, cores; None where nobody knows or nothing was asked for."""

    task: str
    seconds: float | None = None
    limit_seconds: float | None = None
    cpu_seconds: float | None = None
    cpus: int | None = None
    memory: int | None = None
    asked_memory: int | None = None

    @property
    def cpu_share(self) -> float | None:
        """Of the time of its cores, what it worked."""
        if not self.seconds or not self.cpus or self.cpu_seconds is None:
            return None
        return self.cpu_seconds / (self.seconds * self.cpus)

    @property
    def memory_share(self) -> float | None:
        return self.memory / self.asked_memory if self.memory and self.asked_memory else None

    @property
    def time_share(self) -> float | None:
        return self.seconds / self.limit_seconds if self.seconds and self.limit_seconds else None


def usage(book: Book, states: Sequence[TaskState], *, client: Client | None = None) -> list[Usage]:
    """Of the tasks that began and ended: of their last start."""
    client = client or Client(tries=2)
    ended = {
        state: lives[-1]
        for state in states
        if state.submission is not None
        and (lives := book.lives(state.submission.number, state.index))
        and lives[-1].ended is not None
    }
    jobs = {(each.cluster, each.job) for state in ended if (each := state.submission) and each.job}
    rows = client.accounting(sorted(jobs, key=str), since(list(ended)))
    return [_of(state, life, rows) for state, life in ended.items()]


def _of(state: TaskState, life: Life, rows: Sequence[Row]) -> Usage:
    assert state.submission is not None
    asked = state.submission.limits.get("time")
    own = Usage(
        state.task,
        life.seconds,
        None if asked is None else seconds_of(asked),
        life.cpu_seconds,
        life.cpus,
        life.most_memory,
        life.memory,
    )
    own_id = state.submission.cluster, state.submission.job, state.index
    mine = [row for row in rows if (row.cluster, row.job, row.index) == own_id]
    whole = next((row.further for row in mine if not row.further["step"]), None)
    if whole is None:
        return own
    used = [size for row in mine if (size := bytes_of(row.further["MaxRSS"])) is not None]
    return Usage(
        state.task,
        seconds_of(whole["Elapsed"]) or own.seconds,
        seconds_of(whole["Timelimit"]) or own.limit_seconds,
        seconds_of(whole["TotalCPU"]) or own.cpu_seconds,
        int(whole["AllocCPUS"]) if whole["AllocCPUS"].isdecimal() else own.cpus,
        max(used, default=None) or own.memory,
        bytes_of(whole["ReqMem"]) or own.asked_memory,
    )


def bytes_of(said: str) -> int | None:
    """`4G`, `4000M`, `1.5Gn`, `120K`; MB where no unit is given. None of anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)[nc]?", said)
    if found is None:
        return None
    power = {"K": 1, "": 2, "M": 2, "G": 3, "T": 4, "P": 5}[found[2]]
    return int(float(found[1]) * 1024**power) or None
