"""A model folder as a stage: what a source becomes, where it is not one already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import CONVERTING, LOADING, START, Rows, Work, weight_bytes
from subl.model.source import ModelSpec, add, local_folder, made_from
from subl.progress import Report
from subl.stage import Given, Stage

if TYPE_CHECKING:
    from subl.model.size import ModelSize


def _make(spec: ModelSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    return add(spec.source, out, report)


def _names(spec: ModelSpec, given: Given) -> dict[str, Path]:
    return made_from(spec.source)


def _found(spec: ModelSpec) -> Path | None:
    return local_folder(spec.source)


def _cost(spec: ModelSpec, size: ModelSize, rows: Rows) -> Work:
    passes = CONVERTING if made_from(spec.source) else LOADING
    return Work(bytes=START + passes * weight_bytes(size))


def _detail(result: Mapping[str, Any]) -> str:
    count = result.get("parameters")
    return f"{count / 1e6:.0f} M parameters" if count else "from the hub"


MODEL = Stage(
    "model",
    "model",
    ModelSpec,
    {},
    _make,
    names=_names,
    found=_found,
    cost=_cost,
    detail=_detail,
)
