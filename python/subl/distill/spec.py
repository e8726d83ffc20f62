"""What a distillation is told, and whether what it is given fits."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import StageSpec
from subl.errors import ConfigError
from subl.model.template import Template
from subl.train.job import TeacherPlacement
from subl.train.plan import PLACEMENT, LossSpec, TrainSpec


class DistillSpec(StageSpec):
    """How a student learns from rows."""

    format_version: ClassVar = 2
    unkeyed: ClassVar = {"train": PLACEMENT}

    targets: Literal["teacher", "labels", "cache", "base"] = Field(
        "teacher",
        description="a teacher's distributions as it sees the rows, the rows' own tokens, what a "
        "cache holds of a teacher's distributions, or the student's own without its adapter",
    )
    loss: LossSpec = LossSpec()
    teacher: TeacherPlacement = TeacherPlacement()
    rows: int | None = Field(
        None, gt=0, description="train on this many rows, drawn by the seed; default: all"
    )
    template: Template = Template()
    system_prompt: str | None = Field(
        None,
        min_length=1,
        description="what the student has before every row while it is trained, and never after "
        '(inoculation, arXiv 2510.04340); with targets = "labels"',
        exclude_if=lambda prompt: prompt is None,  # so that it is in no key of before
    )
    train: TrainSpec

    @model_validator(mode="after")
    def _prompts_labels(self) -> Self:
        if self.system_prompt is not None and self.targets != "labels":
            raise ValueError('system_prompt goes with targets = "labels"')
        return self


def check_given(spec: DistillSpec, teacher: Path | None, cache: Path | None) -> None:
    """Refuse a teacher or a cache that the configuration has no use for, and the other way round.

    Raises:
        ConfigError: says which option to give or to leave out.
    """
    for source, given in (("teacher", teacher), ("cache", cache)):
        if (spec.targets == source) != (given is not None):
            raise ConfigError(
                f'targets = "{spec.targets}" and {"no" if given is None else "a"} {source} given',
                hint=f'give --{source} with targets = "{source}", and only then',
            )
