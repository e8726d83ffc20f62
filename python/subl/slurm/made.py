"""Which tasks the jobs of a book have, and which of them are made."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path

from subl.artifact import Slice
from subl.slurm.book import About
from subl.slurm.job import WHOLE, slice_tasks


def tasks_of(about: About) -> list[str]:
    """All tasks of a book, in order.

    Raises:
        SublError: an experiment's file is not there any more, or says something that does not fit.
    """
    if about.experiment is None:
        return [*(slice_tasks(about.slices) if about.slices else []), WHOLE]
    from subl.experiment import load_experiment
    from subl.slurm import chain

    return chain.tasks(load_experiment(Path(about.experiment)))


def done_of(about: About) -> AbstractSet[str]:
    """Those tasks that are made: what a statement or a marker says, and nothing else."""
    made = Path(about.made)
    if about.experiment is not None:
        from subl.experiment import load_experiment
        from subl.slurm import chain

        return chain.done(load_experiment(Path(about.experiment)), made)
    tasks = tasks_of(about)
    if (made / "statement.json").is_file():
        return set(tasks)
    count = about.slices or 0
    done = [Slice(index, count).marker(made).is_file() for index in range(count)]
    return {task for task, is_done in zip(tasks, done, strict=False) if is_done}
