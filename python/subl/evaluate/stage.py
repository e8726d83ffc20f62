"""Evaluation as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import WHOLE, Artifact, Slice
from subl.cost import (
    TEMPLATE_TOKENS,
    Room,
    Rows,
    Work,
    loading,
    mean_tokens,
    room_to_answer,
    sampling,
    scoring,
)
from subl.errors import ConfigError
from subl.evaluate.run import evaluate
from subl.evaluate.spec import EvalSpec
from subl.progress import Report
from subl.sample import check_model
from subl.stage import Given, Input, Stage
from subl.trait import forms_of
from subl.trait.questions import questions_of

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_UNREAD = [
    "A question of a file that nobody has read yet, of so many tokens, and of no more?"
] * 800

_SAID_TOKENS = {"word": 5, "choice": 2, "number": 200, "text": 250}
"""Of an answer of these kinds."""


def _make(
    spec: EvalSpec, given: Given, out: Path, name: str, report: Report, mine: Slice = WHOLE
) -> Artifact:
    model, questions, judge = (
        given.get(each, (None,))[0] for each in ("model", "questions", "judge")
    )
    return evaluate(
        spec, model, out, questions=questions, judge=judge, name=name, mine=mine, report=report
    )


def _check(spec: EvalSpec, given: Collection[str]) -> None:
    check_model(spec.backend, given)
    if spec.way == "judged":
        check_model(spec.judge.backend, given, "judge")
    elif "judge" in given:
        raise ConfigError(
            f"judge: nothing is judged, the method is {spec.way}", hint="leave the judge out"
        )
    if spec.measured.file is not None and "questions" not in given:
        columns = [spec.measured.file.question, *spec.measured.file.answers]
        raise ConfigError(
            f"no questions are given, and the trait {spec.measured.name} has none of its own",
            hint=f"a file (.csv, .parquet or JSON lines) with the columns {', '.join(columns)}",
        )


def _asked(spec: EvalSpec, given: Rows) -> tuple[int, float]:
    """How many questions there are, and the tokens of one in its template, about. `given`: those of
    a stage."""
    trait = spec.measured
    if trait.file is not None and given.count:
        return given.count, given.prompt + TEMPLATE_TOKENS
    asked = [each.text for each in questions_of(trait)] if trait.file is None else _UNREAD
    return len(asked), mean_tokens(asked) + TEMPLATE_TOKENS


def _nodes(spec: EvalSpec) -> float:
    """Tokens of all answers that are scored."""
    return 1.5 * sum(map(len, forms_of(spec.measured.words, spec.measured.forms).values()))


def _said(spec: EvalSpec) -> int:
    """Tokens of an answer that is sampled."""
    return min(spec.max_new_tokens, _SAID_TOKENS[spec.measured.answers])


def _cost(spec: EvalSpec, size: ModelSize, rows: Rows) -> Work:
    """A judge counts as if it were as large as the model."""
    count, prompt = _asked(spec, rows)
    if spec.way in ("exact", "choice"):
        return loading(size) + scoring(size, count, prompt, _nodes(spec), spec.batch_questions)
    answers = count * spec.samples
    work = sampling(size, answers, prompt, _said(spec), spec.batch_rows, spec.backend)
    if spec.way == "judged":
        rubrics = spec.measured.rubrics.values()
        work += spec.judge.work(rubrics, size, answers, prompt + _said(spec))
    return work


def _room(spec: EvalSpec, model: Architecture, rows: Rows) -> Room:
    _, prompt = _asked(spec, rows)
    if spec.way in ("exact", "choice"):
        return room_to_answer(model, prompt + _nodes(spec), spec.batch_questions, spec.backend)
    return room_to_answer(model, prompt + _said(spec), spec.batch_rows, spec.backend)


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['questions']} questions"


EVAL = Stage(
    "eval",
    "scores",
    EvalSpec,
    {
        "model": Input("model", "Model to measure; a server has its own.", required=False),
        "questions": Input("rows", "Questions, where the trait has none.", required=False),
        "judge": Input("model", "Model that judges answers.", required=False),
    },
    _make,
    check=_check,
    cost=_cost,
    room=_room,
    detail=_detail,
)
