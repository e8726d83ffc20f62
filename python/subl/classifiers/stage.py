"""Classifiers of digits as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.classifiers.arms import ARMS, layered
from subl.classifiers.run import classifiers
from subl.classifiers.spec import ClassifiersSpec
from subl.cost import OPTIMISING, START, Room, Rows, Work
from subl.progress import Report
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_PIXELS, _IMAGES = 784, 60_000
"""MNIST's, where nobody has read the data yet."""


def _make(spec: ClassifiersSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (data,) = given.get("data") or (None,)
    return classifiers(spec, data, out, name=name, report=report)


def _students(spec: ClassifiersSpec) -> int:
    return len(ARMS) + (len(layered(len(spec.hidden) + 1)) if spec.layers else 0)


def _weights(spec: ClassifiersSpec) -> int:
    return sum(prod(each) for each in pairwise(spec.sizes(_PIXELS)))


def _cost(spec: ClassifiersSpec, size: ModelSize, rows: Rows) -> Work:
    """Forward and backward passes of all models, and Adam's over their weights."""
    epochs = spec.teacher_epochs + _students(spec) * spec.student_epochs
    images = spec.epoch_images or _IMAGES
    weights = _weights(spec) * spec.seeds
    return Work(
        products=6 * weights * images * epochs,
        moved=OPTIMISING * 4 * weights * spec.steps(images, epochs),
        bytes=START,
    )


def _room(spec: ClassifiersSpec, model: Architecture, rows: Rows) -> Room:
    """Noise and digits, and of each model its weights, gradients and Adam's two moments."""
    images = _PIXELS * 4 * (spec.epoch_images or _IMAGES)
    return Room(spec.seeds_at_once * (images + 16 * _students(spec) * _weights(spec)) + images)


def _detail(result: Mapping[str, Any]) -> str:
    seeds = result["figures"][0]["ours"]["n"]
    return f"{len(result['figures'])} arms of {seeds} models, {result['data']}"


CLASSIFIERS = Stage(
    "classifiers",
    "figures",
    ClassifiersSpec,
    {
        "data": Input(
            "images", "MNIST's files; without, scikit-learn's digits are used.", required=False
        )
    },
    _make,
    cost=_cost,
    room=_room,
    detail=_detail,
)
