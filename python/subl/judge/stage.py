"""Judging as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import Room, Rows, Work
from subl.errors import ConfigError
from subl.judge.run import judge
from subl.judge.spec import JudgeSpec
from subl.progress import Report
from subl.sample import check_model
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize


def _make(spec: JudgeSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given.get("model") or (None,)
    return judge(spec, model, given["rows"], out, name=name, report=report)


def _check(spec: JudgeSpec, given: Collection[str]) -> None:
    if spec.rubrics:
        check_model(spec.backend, given)
    elif "model" in given:
        raise ConfigError("model: no judge asks one", hint="leave model out")


def _cost(spec: JudgeSpec, size: ModelSize, rows: Rows) -> Work:
    tokens = rows.prompt + rows.completion
    return spec.work([each.rubric for each in spec.rubrics], size, rows.count, tokens)


def _room(spec: JudgeSpec, model: Architecture, rows: Rows) -> Room:
    tokens = rows.prompt + rows.completion
    return spec.room([each.rubric for each in spec.rubrics], model, tokens)


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['rows']} rows, {', '.join(result['columns'])}"


JUDGE = Stage(
    "judge",
    "rows",
    JudgeSpec,
    {
        "model": Input("model", "Judge, where one is a model.", required=False),
        "rows": Input("rows", "Rows to judge.", many=True),
    },
    _make,
    check=_check,
    cost=_cost,
    room=_room,
    detail=_detail,
)
