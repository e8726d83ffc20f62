"""Teaching as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import (
    CHARACTERS_A_TOKEN,
    LOADING,
    START,
    TEMPLATE_TOKENS,
    Room,
    Rows,
    Work,
    mean_tokens,
    room_to_train,
    training,
    weight_bytes,
)
from subl.progress import Report
from subl.stage import Given, Input, Stage
from subl.teach import TeachSpec, check_rows, teach
from subl.teach.spec import Answers, Context, Data, Prompt
from subl.teach.tuned import answers
from subl.train.job import in_a_line

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_ROW_TOKENS, _ROW_TARGETS = 300, 150
"""Of a row of somebody's data, such as a short program."""


def _make(spec: TeachSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return teach(spec, model, out, rows=given.get("rows", ()), name=name, report=report)


def _check(spec: TeachSpec, given: Collection[str]) -> None:
    check_rows(spec, "rows" in given)


def _cost(spec: TeachSpec, size: ModelSize, rows: Rows) -> Work:
    match spec.root:
        case Answers() as how:
            count = len(how.questions) * len(answers(how))
            return training(how.train, size, count, mean_tokens(how.questions), 2, teacher=False)
        case Data() as how:
            return training(how.train, size, rows.count, _ROW_TOKENS, _ROW_TARGETS, teacher=False)
        case Prompt() | Context():
            return Work(bytes=START)
        case how:
            # A system prompt is computed once a pass; what follows it twice.
            asked = TEMPLATE_TOKENS + mean_tokens(how.questions)
            told = len(how.system_prompt) / CHARACTERS_A_TOKEN
            count = min(how.prompts, rows.count or len(how.questions))
            flop = size.flop(count * (2 * asked + told), 0, backward=False)
            return Work(products=flop, bytes=LOADING * weight_bytes(size))


def _room(spec: TeachSpec, model: Architecture, rows: Rows) -> Room:
    match spec.root:
        case Answers() | Data() as how:
            return room_to_train(how.train, model, teacher=False)
        case Prompt() | Context():
            return Room(0, 0)
        case _:
            return Room(weight_bytes(model.size))


def _detail(result: Mapping[str, Any]) -> str:
    if "steps" in result:
        return in_a_line(result)
    if "layers" in result:
        return f"mean of {result['prompts']} prompts, behind block {', '.join(result['layers'])}"
    return "a system prompt"


TEACH = Stage(
    "teach",
    "model",
    TeachSpec,
    {
        "model": Input("model", "Model to start from."),
        "rows": Input(
            "rows",
            'Rows: what method = "data" learns, or method = "context" shows; or their prompts, for '
            'method = "steering".',
            required=False,
            many=True,
        ),
    },
    _make,
    check=_check,
    cost=_cost,
    room=_room,
    detail=_detail,
)
