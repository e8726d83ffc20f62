"""Generation as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import WHOLE, Artifact, Slice
from subl.cost import CHARACTERS_A_TOKEN, Work, loading, sampling
from subl.generate import GenerateSpec, generate
from subl.generate.sets import check_files
from subl.progress import Report
from subl.sample import Http, check_model
from subl.sample.tables import cost_of
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_PROMPT_TOKENS = {"numbers": 103, "numbers-short": 50, "code": 400, "math": 150, "file": 150}
"""Of a prompt of these sets, in its template; of files, a guess."""


def _make(
    spec: GenerateSpec, given: Given, out: Path, name: str, report: Report, mine: Slice = WHOLE
) -> Artifact:
    (model,) = given.get("model", (None,))
    return generate(
        spec, model, out, prompts=given.get("prompts", ()), name=name, mine=mine, report=report
    )


def _check(spec: GenerateSpec, given: Collection[str]) -> None:
    check_files(spec.prompts, "prompts" in given)
    check_model(spec.backend, given)


def expected(spec: GenerateSpec, rows: int) -> dict[str, float]:
    """Tokens that are read, about, and written, at most; and what they cost, where that is said."""
    usage = {
        "prompt_tokens": rows * _prompt_tokens(spec),
        "completion_tokens": rows * spec.max_new_tokens,
    }
    cost = cost_of(spec.backend, usage)
    return {**usage, **({} if cost is None else {"cost": cost})}


def _cost(spec: GenerateSpec, size: ModelSize, rows: int) -> Work:
    if isinstance(spec.backend, Http):
        return Work(0, 0)  # another machine's
    made, asked = _rows(spec, rows), _prompt_tokens(spec)
    return loading(size) + sampling(size, made, asked, spec.max_new_tokens, spec.batch_rows)


def _prompt_tokens(spec: GenerateSpec) -> int:
    return _PROMPT_TOKENS[spec.prompts] + len(spec.system_prompt or "") // CHARACTERS_A_TOKEN


def _rows(spec: GenerateSpec, given: int) -> int:
    return spec.rows or given * spec.samples


def _detail(result: Mapping[str, Any]) -> str:
    failed = result.get("failed", 0)
    return f"{result['rows']} rows" + (f", {failed} failed" if failed else "")


GENERATE = Stage(
    "generate",
    "rows",
    GenerateSpec,
    {
        "model": Input("model", "Model to sample from, unless a server has it.", False),
        "prompts": Input("rows", "Prompts, for the sets that need a file.", False, many=True),
    },
    _make,
    check=_check,
    cost=_cost,
    rows=_rows,
    detail=_detail,
)
