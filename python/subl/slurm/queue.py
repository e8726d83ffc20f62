"""What Slurm has of the tasks that were handed in: by the book of submissions, whatever it is about
by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from subl.errors import StageError
from subl.slurm.book import Book, Submission
from subl.slurm.client import WAITING, Client, JobId, Row, called


@dataclass(frozen=True, eq=False)
class HandedIn:
    """A task that was handed in once. `row`: what Slurm says of it, None: it does not know it."""

    task: str
    submission: Submission
    index: int | None
    row: Row | None

    @property
    def job(self) -> JobId | None:
        """What waits or runs; None: it does neither."""
        if self.row is None or not self.row.active:
            return None
        return self.row.cluster, called(self.row.job, self.index)

    @property
    def waits(self) -> bool:
        return self.row is not None and self.row.state in WAITING


class Queue:
    """Rows of squeue, by what is known of a job: its cluster and number, or else the key in its
    comment."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._by_job = {(row.cluster, row.job, row.index): row for row in rows}
        self._by_comment = {(row.comment, row.index): row for row in rows}

    def row(self, submission: Submission, index: int | None) -> Row | None:
        if submission.job is None:
            return self._by_comment.get((submission.comment, index))
        return self._by_job.get((submission.cluster, submission.job, index))


def handed_in(book: Book, client: Client) -> list[HandedIn]:
    """All tasks of all submissions.

    Raises:
        StageError: Slurm does not say which of them it has.
    """
    rows = client.queue(book.clusters())
    if rows is None:
        raise StageError(
            "squeue does not say which jobs there are, so none was submitted twice, and none ended",
            hint="try again later; subl slurm status shows what is known",
        )
    queue = Queue(rows)
    return [
        HandedIn(task, each, index, queue.row(each, index))
        for each in book.submissions()
        for index, task in each.tasks.items()
    ]
