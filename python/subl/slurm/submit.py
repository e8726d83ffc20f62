"""Hand the jobs that make something to Slurm: those that are missing, once.

Submitting again is always safe. What is done is left alone, and what waits or runs, too: Slurm is
asked before anything is handed in, and a submission whose answer got lost is looked for by the key
in its job's comment.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from subl.artifact import json_digest, write_atomically
from subl.cluster.heartbeat import now
from subl.errors import ConfigError, DependencyError, StageError
from subl.slurm.book import About, Book, Submission
from subl.slurm.client import Client, Unanswered, called
from subl.slurm.job import Job
from subl.slurm.queue import HandedIn, handed_in
from subl.slurm.script import Place, clusters_of, directives_of, script


@dataclass(frozen=True)
class Submitted:
    """What became of a job: tasks that are done, that Slurm has already, and that were handed in
    (or would be, in a dry run), with the script."""

    name: str
    done: int = 0
    queued: int = 0
    tasks: int = 0
    job: str | None = None
    script: str = field(default="", repr=False)


def submit(
    book: Book,
    about: About,
    jobs: Sequence[Job],
    done: Callable[[], AbstractSet[str]],
    *,
    after: Sequence[str] = (),
    dry_run: bool = False,
    client: Client | None = None,
) -> list[Submitted]:
    """Submit what is missing of `jobs`, which are in the order of their dependencies.

    Args:
        done: names of the tasks that are made, looked up now.
        after: numbers of other jobs that must succeed first.
        dry_run: ask nobody and write nothing.

    Raises:
        BusyError: another process submits the same.
        StageError: Slurm refuses a job, or does not say what it has.
        ConfigError: jobs of something else are still in the queue.
    """
    client = client or Client()
    if dry_run:
        return _Submitting(book, about, client, done(), [], after, dry_run=True).all(jobs)
    with book.held():
        earlier = handed_in(book, client)
        _note_found(book, earlier)
        made = done()  # after the queue was looked at: what ended meanwhile is done
        alive = [each for each in earlier if each.job is not None]
        return _Submitting(book, about, client, made, alive, after, dry_run=False).all(jobs)


def _note_found(book: Book, earlier: Sequence[HandedIn]) -> None:
    """Note the number of a job whose submission was cut short, and that Slurm has."""
    cut = [(each.submission, each.row) for each in earlier if each.submission.job is None]
    for submission, job in {each.number: (each, row.job) for each, row in cut if row}.values():
        book.note(replace(submission, job=job))


class _Submitting:
    """One call of `submit`."""

    def __init__(
        self,
        book: Book,
        about: About,
        client: Client,
        done: AbstractSet[str],
        alive: Sequence[HandedIn],
        after: Sequence[str],
        *,
        dry_run: bool,
    ) -> None:
        self._book, self._about, self._client = book, about, client
        self._done, self._after, self._dry_run = done, after, dry_run
        self._alive = {each.task: each for each in alive}
        self._number = len(book.submissions())
        self._new: dict[str, Submission] = {}
        """What was submitted, by the job's name."""

    def all(self, jobs: Sequence[Job]) -> list[Submitted]:
        by_name = {job.name: job for job in jobs}
        wanted = {task for job in jobs for task in job.tasks}
        if others := sorted(self._alive.keys() - wanted):
            raise ConfigError(
                f"jobs for {self._about.made} that make something else are in the queue: "
                f"{', '.join(others[:3])}{', …' if len(others) > 3 else ''}",
                hint="subl slurm cancel ends them; or ask for the same again",
            )
        if not self._dry_run:
            self._book.begin(self._about)
        return [self._one(job, [by_name[name] for name in job.after]) for job in jobs]

    def _one(self, job: Job, before: Sequence[Job]) -> Submitted:
        done = [task for task in job.tasks if task in self._done]
        if any(each.name in self._new for each in before):
            # What waits for a job that failed would wait for ever, and not for the new one.
            queued = [self._alive[task] for task in job.tasks if task in self._alive]
            stale = [each for each in queued if each.waits]
            self._client.cancel([each.job for each in stale if each.job is not None])
            for each in stale:
                del self._alive[each.task]
        missing = {
            index: task
            for index, task in enumerate(job.tasks)
            if task not in self._done and task not in self._alive
        }
        told = Submitted(
            job.name, len(done), len(job.tasks) - len(done) - len(missing), len(missing)
        )
        if not missing:
            return told
        return self._hand_in(job, missing, self._dependency(job, missing, before), told)

    def _dependency(
        self, job: Job, missing: Mapping[int, str], before: Sequence[Job]
    ) -> tuple[str, ...]:
        """What `sbatch --dependency` takes: the jobs that make what is not there yet."""
        found = [] if before else [f"afterok:{each}" for each in self._after]
        for each in before:
            alive = [self._alive[task] for task in each.tasks if task in self._alive]
            waiting = [task for task in alive if task.task not in self._done]
            if (new := self._new.get(each.name)) is not None:
                # Of an array whose tasks are the same ones, each waits for its own.
                same = job.task_by_task and missing.keys() <= new.tasks.keys() and not waiting
                found.append(f"{'aftercorr' if same else 'afterok'}:{new.job or '?'}")
            names = {task.task for task in waiting}
            for task in waiting:
                assert task.row is not None, "it waits or runs"
                # All of an array only if all of it is to come: some that is done may have failed.
                is_all = names >= set(task.submission.tasks.values())
                found.append(f"afterok:{called(task.row.job, None if is_all else task.index)}")
        return tuple(dict.fromkeys(found))

    def _hand_in(
        self, job: Job, missing: Mapping[int, str], after: tuple[str, ...], told: Submitted
    ) -> Submitted:
        number = f"{self._number + 1:03}"
        place = Place(
            Path(self._about.directory),
            _programs(),
            self._book.path,
            number,
        )
        text = script(
            job.command(missing),
            job.spec,
            place,
            name=job.name,
            typed=["subl", *self._about.command],
            tasks=list(missing) if job.array else None,
        )
        directives = directives_of(text)
        tasks: dict[int | None, str] = {
            index if job.array else None: task for index, task in missing.items()
        }
        submission = Submission(
            number,
            json_digest([str(self._book.path), number, text])[:16],
            tasks,
            now(),
            after,
            {name: getattr(job.spec, name) for name in ("time", "memory", "cpus", "tasks")},
            cluster=clusters_of(directives, os.environ),
        )
        self._number += 1
        self._new[job.name] = submission
        if self._dry_run:
            return replace(told, script=text)
        write_atomically(place.script, text)
        self._book.note(submission)
        accepted, cluster = self._accepted(job, submission, place.script, directives)
        submission = replace(submission, job=accepted, cluster=cluster or submission.cluster)
        self._book.note(submission)
        self._new[job.name] = submission
        return replace(told, job=accepted, script=text)

    def _accepted(
        self, job: Job, submission: Submission, file: Path, directives: Sequence[str]
    ) -> tuple[str, str | None]:
        """Call sbatch until Slurm has the job: once, though answers may get lost."""
        arguments = [f"--comment={submission.comment}"]
        if submission.after:
            arguments += [f"--dependency={','.join(submission.after)}", "--kill-on-invalid-dep=yes"]
        said = ""
        for pause in self._client.pauses():
            try:
                return self._client.submit(*directives, *arguments, str(file))
            except Unanswered as error:
                said = str(error)
            except DependencyError:
                self._book.note(replace(submission, tasks={}))
                raise
            except StageError as error:
                self._book.note(replace(submission, tasks={}))  # there is no such job
                raise StageError(
                    f"Slurm refuses the job {job.name}: {error.message}",
                    hint=f"the script is {file}; subl slurm doctor says what the cluster has",
                ) from error
            time.sleep(pause)
            rows = self._client.queue([submission.cluster])
            if rows is None:
                break  # it may have the job: a second one is worse than none
            for row in rows:
                if row.comment == submission.comment:
                    return row.job, None
        raise StageError(
            f"sbatch does not answer: {said}",
            hint="submit again later: a job that it took in spite of that is found then",
        )


def _programs() -> Path:
    """The folder of this `subl`: the one of the environment that runs now, if that has one."""
    own = Path(sys.executable).parent
    if not (own / "subl").exists() and (found := shutil.which("subl")):
        return Path(found).absolute().parent
    return own.absolute()
