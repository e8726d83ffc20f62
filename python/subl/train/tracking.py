"""Metrics for people's own boards, beside `metrics.ndjson`: TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import DependencyError

if TYPE_CHECKING:
    from subl.train.job import RunOptions, TrainJob

Tracker = Callable[[int, Mapping[str, Any]], None]
"""Takes a step and its figures by name; those that are not numbers are left out."""


def check_trackers(options: RunOptions) -> None:
    """Refuse, before any rank starts, what is not installed.

    Raises:
        DependencyError: names the option and the extra.
    """
    for name, wanted in (("tensorboard", options.tensorboard), ("wandb", options.wandb)):
        if wanted is not None and importlib.util.find_spec(name) is None:
            raise DependencyError(f"--{name} needs {name}", hint="pip install 'subl[track]'")


@contextmanager
def trackers(job: TrainJob) -> Iterator[list[Tracker]]:
    """What the job asks for, closed at the end."""
    with ExitStack() as stack:
        found: list[Tracker] = []
        if job.options.tensorboard is not None:
            found.append(stack.enter_context(_tensorboard(job.options.tensorboard)))
        if job.options.wandb is not None:
            found.append(stack.enter_context(_wandb(job.options.wandb, job)))
        yield found


@contextmanager
def _tensorboard(folder: Path) -> Iterator[Tracker]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def track(step: int, figures: Mapping[str, Any]) -> None:
            for name, value in _numbers(figures).items():
                writer.add_scalar(name, value, step)

        yield track


@contextmanager
def _wandb(project: str, job: TrainJob) -> Iterator[Tracker]:
    import wandb

    config = job.spec.model_dump(mode="json")
    run = wandb.init(project=project, name=job.task, config=config)
    try:
        yield lambda step, figures: run.log(_numbers(figures), step=step)
    finally:
        run.finish()


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in figures.items()
        if isinstance(value, int | float) and name != "step"
    }
