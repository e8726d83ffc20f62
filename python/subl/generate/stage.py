"""Generation as a stage of an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.cost import (
    CHARACTERS_A_TOKEN,
    LOADING,
    PASS,
    SHARE_OF_PEAK,
    SHARE_OF_PEAK_SAMPLING,
    Work,
    weight_bytes,
)
from subl.generate import GenerateSpec, generate
from subl.progress import Report
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_PROMPT_TOKENS = {"numbers": 103, "numbers-short": 50}
"""Of a prompt of these sets, in its template."""


def _make(spec: GenerateSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return generate(spec, model, out, name=name, report=report)


def _cost(spec: GenerateSpec, size: ModelSize, rows: int) -> Work:
    asked = _PROMPT_TOKENS[spec.prompts]
    asked += len(spec.system_prompt or "") // CHARACTERS_A_TOKEN
    said = spec.max_new_tokens
    read = size.flop(spec.rows * asked, spec.rows, backward=False) / SHARE_OF_PEAK
    written = size.flop(spec.rows * said, spec.rows * said, backward=False)
    passes = said * math.ceil(spec.rows / spec.batch_rows)
    flop = read + written / SHARE_OF_PEAK_SAMPLING
    return Work(flop, LOADING * weight_bytes(size) + passes * PASS)


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['rows']} rows"


GENERATE = Stage(
    "generate",
    "rows",
    GenerateSpec,
    {"model": Input("model", "Model to sample from.")},
    _make,
    cost=_cost,
    rows=lambda spec, given: int(spec.rows),
    detail=_detail,
)
