"""Jobs to be, before anybody asks what of them is missing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subl.slurm.script import Word, Words
from subl.slurm.spec import SlurmSpec

WHOLE = "whole"
"""The task that makes all of a stage's work, or what slices left of it."""


@dataclass(frozen=True)
class Job:
    """One job to be, or an array of several tasks.

    Args:
        name: unlike those of the book's other jobs.
        tasks: what it makes; of an array in the order of their numbers.
        command: given the tasks that are to be made, by their numbers, the command of one.
        after: names of jobs that must succeed first.
        task_by_task: each task waits for that of the same number only.
    """

    name: str
    tasks: Sequence[str]
    command: Callable[[Mapping[int, str]], Words]
    spec: SlurmSpec
    array: bool = False
    after: Sequence[str] = ()
    task_by_task: bool = False


def stage_jobs(
    name: str,
    words: Sequence[str],
    spec: SlurmSpec,
    slices: int | None,
    *,
    bins: Path | None = None,
) -> list[Job]:
    """The job of a stage; or an array whose tasks share its work, as `bins` says if there is such a
    file, and behind it a job that sees to it that all is there, and finishes it."""
    alone = spec.model_copy(update={"array": None, "tasks": None if slices else spec.tasks})
    last = Job(name, [WHOLE], lambda _: words, alone)
    if slices is None:
        return [last]
    more = [] if bins is None else ["--bins", str(bins)]
    shared: Words = [*words, "--slice", Word(f"{{}}/{slices}"), *more]
    array = Job(f"{name}-slices", slice_tasks(slices), lambda _: shared, spec, array=True)
    return [array, replace(last, after=[array.name])]


def slice_tasks(count: int) -> list[str]:
    """The tasks that share a stage's work."""
    return [f"slice {index}/{count}" for index in range(count)]
