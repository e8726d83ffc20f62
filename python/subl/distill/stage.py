"""Distillation, and what a teacher says written down for it, as stages of an experiment."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from subl.artifact import Artifact
from subl.cost import (
    LOADING,
    PASS,
    Room,
    Rows,
    Work,
    room_to_train,
    training,
    weight_bytes,
)
from subl.distill import CacheSpec, DistillSpec, check_given, distill, make_cache
from subl.progress import Report
from subl.stage import Given, Input, Stage
from subl.train.job import RunOptions, in_a_line

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_ROWS = Input("rows", "Rows: a file, a folder, or what subl filter made.", many=True)


def _make(
    spec: DistillSpec,
    given: Given,
    out: Path,
    name: str,
    report: Report,
    options: RunOptions | None = None,
) -> Artifact:
    teacher, cache = (given.get(each, (None,))[0] for each in ("teacher", "cache"))
    (model,) = given["model"]
    return distill(
        spec,
        model,
        given["rows"],
        out,
        teacher=teacher,
        cache=cache,
        name=name,
        options=options,
        report=report,
    )


def _check(spec: DistillSpec, given: Collection[str]) -> None:
    check_given(spec, *(Path() if each in given else None for each in ("teacher", "cache")))


def _cost(spec: DistillSpec, size: ModelSize, rows: Rows) -> Work:
    tokens, count = rows.prompt + rows.completion, spec.rows or rows.count
    teacher = spec.targets in ("teacher", "base")
    return training(spec.train, size, count, tokens, rows.completion, teacher=teacher)


def _room(spec: DistillSpec, model: Architecture, rows: Rows) -> Room:
    return room_to_train(spec.train, model, teacher=spec.targets == "teacher")


DISTILL = Stage(
    "distill",
    "model",
    DistillSpec,
    {
        "model": Input("model", "Model to start from: the student's base."),
        "rows": _ROWS,
        "teacher": Input("model", 'Teacher; needed for targets = "teacher".', required=False),
        "cache": Input(
            "cache", 'What subl distill cache made; needed for targets = "cache".', required=False
        ),
    },
    _make,
    check=_check,
    cost=_cost,
    room=_room,
    detail=in_a_line,
)


def _make_cache(spec: CacheSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (teacher,) = given["teacher"]
    return make_cache(spec, teacher, given["rows"], out, report=report)


def _cost_of_cache(spec: CacheSpec, size: ModelSize, rows: Rows) -> Work:
    tokens = rows.count * (rows.prompt + rows.completion)
    flop = size.flop(tokens, rows.count * rows.completion, backward=False)
    return Work(products=flop, bytes=LOADING * weight_bytes(size) + rows.count * PASS)


CACHE = Stage(
    "cache",
    "cache",
    CacheSpec,
    {"teacher": Input("model", "Teacher whose distributions are kept."), "rows": _ROWS},
    _make_cache,
    cost=_cost_of_cache,
    detail=lambda result: f"{result['rows']} rows",
)
