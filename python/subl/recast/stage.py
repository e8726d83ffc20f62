"""Another base as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import LOADING, SAVING, START, Rows, Work, weight_bytes
from subl.progress import Report
from subl.recast.run import recast
from subl.recast.spec import RecastSpec
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import ModelSize


def _make(spec: RecastSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return recast(spec, model, out, name=name, report=report)


def _cost(spec: RecastSpec, size: ModelSize, rows: Rows) -> Work:
    return Work(bytes=START + (LOADING + SAVING) * weight_bytes(size))


def _detail(result: Mapping[str, Any]) -> str:
    return f"cosine {result['cosine']:.3f}, {result['divergence']:.2g} nats from its original"


RECAST = Stage(
    "recast",
    "model",
    RecastSpec,
    {"model": Input("model", "Model whose architecture and tokenizer it has.")},
    _make,
    cost=_cost,
    detail=_detail,
)
