"""Where the tasks of a book stand: our own records first, then what Slurm says, in one query.

Done is what has its statement or its marker. Slurm is asked for what is not: of a job that it has,
its state; of one that it has no more, our own record of its end, and the accounting where there is
one. Where nobody answers, a task is `unknown`, and never taken for failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from subl.cluster.heartbeat import Beat
from subl.slurm.book import STOPPED, Book, Life, Submission
from subl.slurm.client import WAITING, Client, Row, called
from subl.slurm.queue import Queue
from subl.slurm.work import REQUEUED

LOST_SECONDS = 300.0
"""A job that Slurm does not have, and that left no word, is lost after so long without one."""

State = Literal[
    "done", "running", "waiting", "resumable", "failed", "cancelled", "lost", "unknown",
    "not submitted",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class TaskState:
    """Where a task stands. `why` is a reason or a cause for a person; `beat` how far it is."""

    task: str
    state: State
    why: str = ""
    submission: Submission | None = None
    index: int | None = None
    nodes: str = ""
    beat: Beat | None = None
    life: Life | None = None

    @property
    def job(self) -> str | None:
        """As Slurm calls it."""
        if self.submission is None or self.submission.job is None:
            return None
        return called(self.submission.job, self.index)


def status(
    book: Book,
    tasks: Sequence[str],
    done: AbstractSet[str],
    *,
    client: Client | None = None,
    moment: datetime | None = None,
) -> list[TaskState]:
    """Where each of `tasks` stands.

    Args:
        done: those that are made.
        moment: now.
    """
    client = client or Client(tries=2)
    last: dict[str, tuple[Submission, int | None]] = {}
    for submission in book.submissions():
        last |= {task: (submission, index) for index, task in submission.tasks.items()}
    open_tasks = [task for task in tasks if task not in done and task in last]
    rows = client.queue(book.clusters()) if open_tasks else []
    queue = Queue(rows or ())
    found = {task: queue.row(*last[task]) for task in open_tasks}
    gone = [last[task] for task, row in found.items() if row is None or not row.active]
    jobs = dict.fromkeys((each.cluster, each.job) for each, _ in gone if each.job is not None)
    first = min((each.submitted for each, _ in gone), default="")
    accounted = client.accounting(list(jobs), _local(first))
    ended = Queue([row for row in accounted if not row.further.get("step")])

    def look(task: str) -> TaskState:
        if task in done:
            submission, index = last.get(task, (None, None))
            return TaskState(task, "done", "", submission, index)
        if task not in last:
            return TaskState(task, "not submitted")
        submission, index = last[task]
        row = found[task]
        beat = book.beat(submission.number, index)
        lives = book.lives(submission.number, index)
        life = lives[-1] if lives else None
        if row is not None and row.active:
            state: State = "waiting" if row.state in WAITING else "running"
            why = _reason(row) if state == "waiting" else ""
            return TaskState(task, state, why, submission, index, row.nodes, beat, life)
        row = row or ended.row(submission, index)
        seen = max([submission.submitted, *([beat.time] if beat else []),
                    *([life.ended or life.started] if life else [])])  # fmt: skip
        quiet = ((moment or datetime.now(UTC)) - datetime.fromisoformat(seen)).total_seconds()
        state, why = _ended(row, life, answered=rows is not None, quiet=quiet)
        return TaskState(task, state, why, submission, index, "", beat, life)

    return [look(task) for task in tasks]


_HELD = "put back and held: scontrol release"
_MEANINGS = {
    "Resources": "for free machines",
    "Priority": "behind other jobs",
    "Dependency": "for the jobs that it needs",
    "DependencyNeverSatisfied": "for a job that failed: cancel it",
    "JobArrayTaskLimit": "for other tasks of its array",
    "BeginTime": "for its time to begin",
    "JobHeldUser": "held: scontrol release",
    "JobHeldAdmin": "held by the administrator",
    "PartitionTimeLimit": "its time is longer than the partition allows",
    "PartitionNodeLimit": "it asks for more machines than the partition has",
    "ReqNodeNotAvail": "for machines that are down or reserved",
    "InvalidAccount": "no such account, or not yours",
    "BadConstraints": "no machine has what it asks for",
    "launch failed requeued held": "it could not be started, and is held: scontrol release",
    "job requeued in held state": _HELD,
    "None": "",
}
"""What Slurm's reasons say; `squeue`'s manual has them all."""


def _reason(row: Row) -> str:
    reason = row.reason.removeprefix("None")
    meaning = _MEANINGS.get(reason.partition(",")[0].replace("_", " "), "")
    if not reason and row.state == "REQUEUE_HOLD":
        return _HELD
    return f"{meaning} ({reason})" if meaning else reason


def _ended(
    row: Row | None, life: Life | None, *, answered: bool, quiet: float
) -> tuple[State, str]:
    """What a task came to that is not in the queue any more and has not made its thing."""
    slurm = "" if row is None else row.state
    match slurm:
        case "TIMEOUT":
            return "resumable", "TIMEOUT: its time was up"
        case "PREEMPTED":
            return "resumable", "PREEMPTED: it made room for another"
        case "NODE_FAIL" | "BOOT_FAIL":
            return "resumable", f"{slurm}: the machine failed, not the work"
        case "OUT_OF_MEMORY":
            return "failed", "OUT_OF_MEMORY: ask for more memory, or for less at a time"
        case "DEADLINE" | "REVOKED":
            return "failed", slurm
    if life is not None and life.ended is not None:
        return _by_record(life)
    if slurm == "CANCELLED":
        never = life is None
        why = "CANCELLED before it began: by hand, or a job that it needs failed"
        return "cancelled", why if never else "CANCELLED"
    if slurm == "FAILED":
        what = "before subl began: its log says why" if life is None else "without a word"
        return "failed", f"FAILED {what}"
    if slurm == "COMPLETED":
        return "lost", "COMPLETED, says Slurm, and what it makes is not there"
    if not answered:
        return "unknown", "Slurm does not answer"
    if quiet < LOST_SECONDS:
        return "unknown", "not in the queue, and no word of it yet"
    if life is None:
        return "lost", "not in the queue, and it never began"
    return "lost", "not in the queue, and it left no word of its end: it was killed"


def _by_record(life: Life) -> tuple[State, str]:
    if life.stopped and life.told is not None:
        told = {"SIGUSR1": "its time was nearly up", "SIGTERM": "it was cancelled or preempted"}
        then = f"; {life.then}" if life.then not in (None, REQUEUED) else ""
        return "resumable", f"stopped by {life.told} ({told.get(life.told, '')}){then}"
    if life.status == STOPPED:
        return "resumable", "stopped, and saved what it had"
    if life.killed_by == "SIGKILL" or life.status == 137:
        return "failed", "killed (SIGKILL): out of memory, most likely"
    if life.killed_by is not None:
        return "failed", f"killed by {life.killed_by}"
    if life.status == 1:
        return "failed", "exit 1: a check failed"
    if life.status == 0:
        return "lost", "it ended well, and what it makes is not there"
    return "failed", f"exit {life.status}"


def since(states: Sequence[TaskState]) -> str:
    """When the first of the tasks was submitted, as sacct reads it."""
    return _local(
        min((each.submission.submitted for each in states if each.submission), default="")
    )


def _local(moment: str) -> str:
    """As sacct reads it: in the time of this machine."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%dT%H:%M:%S")
