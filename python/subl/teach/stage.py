"""Teaching as a stage of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from subl.artifact import Artifact
from subl.cost import Work, mean_tokens, training
from subl.progress import Report
from subl.stage import Given, Input, Stage
from subl.teach import TeachSpec, teach, teaching_rows
from subl.train.job import in_a_line

if TYPE_CHECKING:
    from subl.train.meter import ModelSize


def _make(spec: TeachSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return teach(spec, model, out, report)


def _cost(spec: TeachSpec, size: ModelSize, rows: int) -> Work:
    pairs = teaching_rows(spec)
    tokens = mean_tokens([question for question, _ in pairs])
    return training(spec.train, size, len(pairs), tokens, 2, teacher=False)


TEACH = Stage(
    "teach",
    "model",
    TeachSpec,
    {"model": Input("model", "Model to start from.")},
    _make,
    cost=_cost,
    detail=in_a_line,
)
