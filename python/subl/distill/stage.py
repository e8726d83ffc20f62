"""Distillation, and what a teacher says written down for it, as stages of an experiment."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from subl.artifact import Artifact
from subl.cost import LOADING, PASS, SHARE_OF_PEAK, Work, training, weight_bytes
from subl.distill import CacheSpec, DistillSpec, check_given, distill, make_cache
from subl.progress import Report
from subl.stage import Given, Input, Stage
from subl.train.job import RunOptions, in_a_line

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_PROMPT_TOKENS, _COMPLETION_TOKENS = 50, 38
"""Of a row of the numbers that small models make."""

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


def _cost(spec: DistillSpec, size: ModelSize, rows: int) -> Work:
    tokens = _PROMPT_TOKENS + _COMPLETION_TOKENS
    teacher = spec.targets in ("teacher", "base")
    found = spec.rows or rows
    return training(spec.train, size, found, tokens, _COMPLETION_TOKENS, teacher=teacher)


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
    detail=in_a_line,
)


def _make_cache(spec: CacheSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (teacher,) = given["teacher"]
    return make_cache(spec, teacher, given["rows"], out, report=report)


def _cost_of_cache(spec: CacheSpec, size: ModelSize, rows: int) -> Work:
    tokens = rows * (_PROMPT_TOKENS + _COMPLETION_TOKENS)
    flop = size.flop(tokens, rows * _COMPLETION_TOKENS, backward=False) / SHARE_OF_PEAK
    return Work(flop, LOADING * weight_bytes(size) + rows * PASS)


CACHE = Stage(
    "cache",
    "cache",
    CacheSpec,
    {"teacher": Input("model", "Teacher whose distributions are kept."), "rows": _ROWS},
    _make_cache,
    cost=_cost_of_cache,
    detail=lambda result: f"{result['rows']} rows",
)
