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
from subl.cost import SHARE_OF_PEAK, START, Work
from subl.progress import Report
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_PIXELS, _IMAGES = 784, 60_000
"""MNIST's, where nobody has read the data yet."""


def _make(spec: ClassifiersSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (data,) = given.get("data") or (None,)
    return classifiers(spec, data, out, name=name, report=report)


def _cost(spec: ClassifiersSpec, size: ModelSize, rows: int) -> Work:
    """Each student's forward and backward pass, and its teacher's forward pass."""
    weights = sum(prod(each) for each in pairwise(spec.sizes(_PIXELS)))
    students = len(ARMS) + (len(layered(len(spec.hidden) + 1)) if spec.layers else 0)
    images = (spec.epoch_images or _IMAGES) * (spec.teacher_epochs + students * spec.student_epochs)
    return Work(6 * weights * images * spec.seeds / SHARE_OF_PEAK, START)


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
    detail=_detail,
)
