"""Evaluation as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import WHOLE, Artifact, Slice
from subl.cost import TEMPLATE_TOKENS, Work, loading, mean_tokens, sampling, scoring
from subl.errors import ConfigError
from subl.evaluate.run import evaluate
from subl.evaluate.spec import EvalSpec
from subl.progress import Report
from subl.sample import Http, check_model
from subl.stage import Given, Input, Stage
from subl.trait import forms_of
from subl.trait.questions import questions_of

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_UNREAD = [
    "A question of a file that nobody has read yet, of so many tokens, and of no more?"
] * 800


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


def _cost(spec: EvalSpec, size: ModelSize, rows: int) -> Work:
    trait = spec.measured
    asked = [each.text for each in questions_of(trait)] if trait.file is None else _UNREAD
    prompt = mean_tokens(asked) + TEMPLATE_TOKENS
    if spec.way in ("exact", "choice"):
        nodes = 1.5 * sum(map(len, forms_of(trait.words, trait.forms).values()))
        return loading(size) + scoring(size, len(asked), prompt, nodes, spec.batch_questions)
    answers, work = len(asked) * spec.samples, Work(0, 0)
    if not isinstance(spec.backend, Http):  # else another machine's
        work += loading(size)
        work += sampling(size, answers, prompt, spec.max_new_tokens, spec.batch_rows)
    if spec.way == "judged":
        read = prompt + spec.max_new_tokens
        work += spec.judge.work(trait.rubrics.values(), size, answers, read)
    return work


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
    detail=_detail,
)
