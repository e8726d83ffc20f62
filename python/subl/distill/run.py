"""A student: a model trained on kept rows, towards a teacher's distributions or on the labels.

A teacher at work, or what it said once and a cache holds; the same tokens for both (Hinton et al.
2015). The artifact is a model folder with a card that says what it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from subl.artifact import Artifact, build, write_atomically
from subl.distill.card import model_card
from subl.distill.spec import DistillSpec, check_given
from subl.errors import InputError
from subl.progress import Report, silent
from subl.shards import Row, read_rows
from subl.train.job import TOKENS, RunOptions, TrainJob
from subl.train.order import permutation
from subl.train.run import crew, prepare


def distill(
    spec: DistillSpec,
    model: Path,
    rows: Sequence[Path],
    out: Path,
    *,
    teacher: Path | None = None,
    cache: Path | None = None,
    name: str = "student",
    options: RunOptions | None = None,
    report: Report = silent,
) -> Artifact:
    """Train the model folder `model` on `rows`; the artifact `out` is itself a model folder.

    Among ranks that srun, torchrun or accelerate started, every rank calls this.

    Args:
        rows: files or folders of rows (a filter's artifact: its kept rows).
        teacher: model folder; needed for `targets = "teacher"`, refused otherwise.
        cache: what `subl distill cache` made; needed for `targets = "cache"`, refused otherwise.

    Raises:
        StoppedError: a signal asked to stop; the same call goes on.
    """
    check_given(spec, teacher, cache)
    inputs = {"model": model, **{f"rows-{index}": path for index, path in enumerate(rows)}}
    inputs |= {} if teacher is None else {"teacher": teacher}
    inputs |= {} if cache is None else {"cache": cache}
    ranks = crew(spec.train, out)

    def work(folder: Path) -> dict[str, Any]:
        job = train_job(spec, model, folder, teacher=teacher, cache=cache, name=name)
        job = job.model_copy(update={"options": options or RunOptions()})
        prepare(job, chosen_rows(spec, rows), ranks.where, report)
        figures = ranks.run(job, report)
        write_atomically(folder / "README.md", model_card(name, spec, inputs, figures))
        return figures

    return ranks.build(lambda: build(out, "distill", spec, inputs, work), out)


def train_job(
    spec: DistillSpec,
    model: Path,
    folder: Path,
    *,
    teacher: Path | None,
    cache: Path | None,
    name: str = "student",
) -> TrainJob:
    """The training job of a distillation that writes to `folder`."""
    return TrainJob(
        task=f"distill {name}",
        model=model,
        tokens=folder / TOKENS,
        template=spec.template,
        system_prompt=spec.system_prompt,
        targets=spec.targets,
        teacher=teacher,
        teacher_placement=spec.teacher,
        cache=cache,
        loss=spec.loss,
        spec=spec.train,
        out=folder,
    )


def chosen_rows(spec: DistillSpec, rows: Sequence[Path]) -> Iterator[Row]:
    """The rows to train on: all, or `spec.rows` of them in the order of their drawing."""
    if spec.rows is None:
        yield from read_rows(rows)
        return
    found = list(read_rows(rows))
    if len(found) < spec.rows:
        raise InputError(
            f"{spec.rows} rows are to be trained on and only {len(found)} were kept",
            hint="generate more rows, or lower `rows`",
        )
    for index in permutation(len(found), spec.train.seed, 0)[: spec.rows]:
        yield found[index]
