"""Judging as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import CHARACTERS_A_TOKEN, TEMPLATE_TOKENS, Work, loading, sampling, scoring
from subl.errors import ConfigError
from subl.judge.run import judge
from subl.judge.spec import JudgeSpec
from subl.progress import Report
from subl.sample import check_model
from subl.sample.tables import Http
from subl.stage import Given, Input, Stage
from subl.trait.rubric import TagAnswer

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_ROW_TOKENS = 150
"""Of a row's prompt and completion."""

_SPELLED = 1.5
"""Tokens of a form of a number, those that it shares with others apart."""


def _make(spec: JudgeSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given.get("model") or (None,)
    return judge(spec, model, given["rows"], out, name=name, report=report)


def _check(spec: JudgeSpec, given: Collection[str]) -> None:
    if spec.rubrics:
        check_model(spec.backend, given)
    elif "model" in given:
        raise ConfigError("model: no judge asks one", hint="leave model out")


def _cost(spec: JudgeSpec, size: ModelSize, rows: int) -> Work:
    if isinstance(spec.backend, Http) or not spec.rubrics:
        return Work(0, 0)
    work = loading(size)
    for each in spec.rubrics:
        answer = each.rubric.answer
        asked = len(each.rubric.template) / CHARACTERS_A_TOKEN + TEMPLATE_TOKENS + _ROW_TOKENS
        if isinstance(answer, TagAnswer):
            work += sampling(size, rows, asked, answer.max_new_tokens, spec.batch_rows)
        else:
            nodes = _SPELLED * len(answer.words)
            work += scoring(size, rows, asked, nodes, spec.batch_rows)
    return work


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
    detail=_detail,
)
