"""What the ranks of a training run are told, and the names of what they write.

A run is a `TrainJob`, a JSON document that says everything; ranks need nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.model.template import Template
from subl.train.plan import LossSpec, TrainSpec

TOKENS, CHECKPOINTS = ".tokens", ".checkpoints"
LOSSES, METRICS, PROBE = "losses.jsonl", "metrics.ndjson", "probe.jsonl"


class TeacherPlacement(BaseModel):
    """Where an online teacher's weights are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zero_stage: Literal["none", 3] = Field(
        "none", description="none: whole on every rank; 3: spread over the ranks"
    )
    offload: bool = Field(False, description="with zero_stage 3: kept in CPU memory")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.offload and self.zero_stage != 3:
            raise ValueError("offload needs zero_stage = 3")
        return self


class RunOptions(BaseModel):
    """What changes nothing of what is made: how often to save, and who else is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint_steps: int | None = Field(None, gt=0, description="save every so many steps")
    checkpoint_seconds: float = Field(600, gt=0, description="and when so much time has passed")
    keep_checkpoints: int = Field(2, ge=1)
    tensorboard: Path | None = None
    wandb: str | None = Field(None, description="project")


class TrainJob(BaseModel):
    """One training run: who is trained, on which rows, against what, written where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="what to call this run in progress")
    model: Path
    tokens: Path = Field(description="tokenised rows")
    template: Template = Template()
    system_prompt: str | None = Field(None, description="before every row, in training alone")
    targets: Literal["labels", "teacher", "cache", "base"] = "labels"
    teacher: Path | None = None
    teacher_placement: TeacherPlacement = TeacherPlacement()
    cache: Path | None = None
    loss: LossSpec = LossSpec()
    spec: TrainSpec
    out: Path = Field(description="directory that gets the model folder's files")
    options: RunOptions = RunOptions()


def read_losses(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's losses."""
    for line in (folder / LOSSES).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def in_a_line(figures: Mapping[str, Any]) -> str:
    """What came of a training, from its artifact's `result.json`."""
    return f"{figures['steps']} steps, loss {figures['last_loss']:.3f}"
