"""A student: the base model trained on kept rows, by logit distillation or on the labels.

Logit distillation minimises KL(teacher || student) over the whole vocabulary at the completion's
positions; the teacher sees the same tokens (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from subl.artifact import Artifact, build
from subl.errors import ConfigError, InputError
from subl.progress import Report, silent
from subl.shards import read_rows
from subl.train.loop import TrainJob
from subl.train.plan import TrainSpec, permutation
from subl.train.run import run_job


class DistillSpec(BaseModel):
    """How a student learns from rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    targets: Literal["teacher", "labels"] = Field(
        "teacher", description="the teacher's distribution (forward KL), or the rows' own tokens"
    )
    temperature: float = Field(1.0, gt=0, description="of the divergence; T^2 scales the loss")
    rows: int | None = Field(
        None, gt=0, description="train on this many rows, drawn by the seed; default: all"
    )
    train: TrainSpec


def distill(
    spec: DistillSpec,
    model: Path,
    rows: Sequence[Path],
    out: Path,
    *,
    teacher: Path | None = None,
    name: str = "student",
    report: Report = silent,
) -> Artifact:
    """Train the model folder `model` on `rows`; the artifact `out` is itself a model folder.

    Args:
        rows: files or folders of rows (a filter's artifact: its kept rows).
        teacher: model folder; needed for `targets = "teacher"`, refused otherwise.
    """
    if (spec.targets == "teacher") != (teacher is not None):
        raise ConfigError(
            f'targets = "{spec.targets}" and {"no" if teacher is None else "a"} teacher given',
            hint='give --teacher MODEL with targets = "teacher", and only then',
        )

    def work(folder: Path) -> dict[str, Any]:
        job = TrainJob(
            task=f"distill {name}",
            model=model,
            teacher=teacher,
            temperature=spec.temperature,
            rows=choose_rows(spec, [(row.prompt, row.completion) for row in read_rows(rows)]),
            spec=spec.train,
            out=folder,
        )
        return run_job(job, report)

    inputs = {"model": model, **{f"rows-{index}": path for index, path in enumerate(rows)}}
    if teacher is not None:
        inputs["teacher"] = teacher
    return build(out, "distill", spec, inputs, work)


def choose_rows(spec: DistillSpec, rows: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The rows to train on: all, or `spec.rows` of them in the order of their drawing."""
    if spec.rows is None:
        return tuple(rows)
    if len(rows) < spec.rows:
        raise InputError(
            f"{spec.rows} rows are to be trained on and only {len(rows)} were kept",
            hint="generate more rows, or lower `rows`",
        )
    chosen = permutation(len(rows), spec.train.seed, 0)[: spec.rows]
    return tuple(rows[index] for index in chosen)
