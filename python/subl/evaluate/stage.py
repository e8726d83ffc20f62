"""Exact evaluation as a stage of an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import (
    LOADING,
    PASS,
    SHARE_OF_PEAK,
    TEMPLATE_TOKENS,
    Work,
    mean_tokens,
    weight_bytes,
)
from subl.evaluate.run import EvalSpec, evaluate
from subl.progress import Report
from subl.stage import Given, Input, Stage
from subl.trait import forms_of
from subl.trait.questions import questions_of

if TYPE_CHECKING:
    from subl.train.meter import ModelSize


def _make(spec: EvalSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return evaluate(spec, model, out, name=name, report=report)


def _cost(spec: EvalSpec, size: ModelSize, rows: int) -> Work:
    trait = spec.measured
    asked = [each.text for each in questions_of(trait)]
    nodes = 1.5 * sum(map(len, forms_of(trait.words, trait.forms).values()))
    tokens = nodes + mean_tokens(asked) + TEMPLATE_TOKENS
    count = len(asked)
    flop = size.flop(count * tokens, count * nodes, backward=False)
    passes = math.ceil(count / spec.batch_questions)
    return Work(flop / SHARE_OF_PEAK, LOADING * weight_bytes(size) + passes * PASS)


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['questions']} questions"


EVAL = Stage(
    "eval",
    "scores",
    EvalSpec,
    {"model": Input("model", "Model to score.")},
    _make,
    cost=_cost,
    detail=_detail,
)
