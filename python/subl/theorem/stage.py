"""The theorem as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import START, TEMPLATE_TOKENS, Room, Rows, Work, weight_bytes
from subl.progress import Report
from subl.stage import Given, Input, Stage
from subl.theorem.run import theorem
from subl.theorem.spec import TheoremSpec

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_QUESTION_TOKENS = 20

_DOUBLE = 2
"""float64 takes twice float32's time, and space."""


def _make(spec: TheoremSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given.get("model") or (None,)
    return theorem(spec, model, out, name=name, report=report)


def _cost(spec: TheoremSpec, size: ModelSize, rows: Rows) -> Work:
    """Of each step: back through the student, L_T behind it, and a few passes over the weights."""
    steps = 2 * spec.seeds * len(spec.losses) * len(spec.epsilons)
    weights, examples, lessons = size.body + size.head, float(spec.rows), float(spec.lessons)
    if weights:
        examples *= spec.row_tokens
        lessons *= TEMPLATE_TOKENS + _QUESTION_TOKENS
    else:
        weights = sum(prod(each) for each in pairwise(spec.sizes))
    times = _DOUBLE if spec.precision == "float64" else 1
    flop = times * steps * weights * (4 * examples + 2 * lessons)
    return Work(products=flop, moved=times * 4 * steps * weight_bytes(size), bytes=START)


def _room(spec: TheoremSpec, model: Architecture, rows: Rows) -> Room:
    """Two bases, both steps, and where each leads."""
    return Room(6 * (_DOUBLE if spec.precision == "float64" else 1) * weight_bytes(model.size))


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['subject']}, {len(result['epsilons'])} steps"


THEOREM = Stage(
    "theorem",
    "figures",
    TheoremSpec,
    {"model": Input("model", "Language model; without, a perceptron is measured.", required=False)},
    _make,
    cost=_cost,
    room=_room,
    detail=_detail,
)
