"""Generation as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import WHOLE, Artifact, Slice
from subl.cost import CHARACTERS_A_TOKEN, Room, Rows, Work, room_to_answer, sampling
from subl.generate import GenerateSpec, generate
from subl.generate.sets import check_files
from subl.progress import Report
from subl.sample import check_model
from subl.sample.tables import cost_of
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_PROMPT_TOKENS = {"numbers": 103, "numbers-short": 50, "code": 400, "math": 150, "file": 150}
"""Of a prompt of these sets, in its template; of files, a guess."""

_SAID_TOKENS = {"numbers": 45, "numbers-short": 38, "code": 150, "math": 200, "file": 200}
"""Of an answer to one, of a model that ends where it should: ten numbers whose digits are tokens,
a short program, some steps of a calculation."""


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


def _cost(spec: GenerateSpec, size: ModelSize, rows: Rows) -> Work:
    made, asked = _rows(spec, rows), _prompt_tokens(spec)
    return sampling(size, made.count, asked, made.completion, spec.batch_rows, spec.backend)


def _room(spec: GenerateSpec, model: Architecture, rows: Rows) -> Room:
    tokens = _prompt_tokens(spec) + _rows(spec, rows).completion
    return room_to_answer(model, tokens, spec.batch_rows, spec.backend)


def _prompt_tokens(spec: GenerateSpec) -> int:
    return _PROMPT_TOKENS[spec.prompts] + len(spec.system_prompt or "") // CHARACTERS_A_TOKEN


def _rows(spec: GenerateSpec, given: Rows) -> Rows:
    said = min(spec.max_new_tokens, _SAID_TOKENS[spec.prompts])
    return Rows(spec.rows or given.count * spec.samples, _PROMPT_TOKENS[spec.prompts], said)


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
    room=_room,
    rows=_rows,
    detail=_detail,
)
