"""Rows from a model: prompts in, JSONL shards out, each row with an id and where it came from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import (
    Artifact,
    StageSpec,
    build,
    input_digest,
    plan_key,
    write_atomically,
)
from subl.errors import InputError
from subl.generate.grammar import NumberGrammar, token_schedule
from subl.generate.prompts import PROMPT_SETS
from subl.model.template import Template
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class GenerateSpec(StageSpec):
    """What to sample. `grammar` restricts decoding; without it, completions are free text."""

    format_version: ClassVar = 1

    rows: int = Field(gt=0)
    prompts: Literal["numbers", "numbers-short"] = Field(
        "numbers", description="the paper's number prompts, or short ones for small models"
    )
    grammar: NumberGrammar | None = None
    system_prompt: str | None = Field(None, description="used in sampling, not saved in the rows")
    template: Template = Template()
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(64, gt=0, description="of a completion without grammar")
    seed: int = Field(0, ge=0, lt=2**64)
    batch_rows: int = Field(64, gt=0)
    shard_rows: int = Field(1024, gt=0, description="rows of one file; a rerun keeps whole files")

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.shard_rows % self.batch_rows and self.shard_rows < self.rows:
            raise ValueError(
                f"shard_rows ({self.shard_rows}) must divide by batch_rows ({self.batch_rows})"
            )
        return self


def generate(
    spec: GenerateSpec, model: Path, out: Path, *, name: str = "rows", report: Report = silent
) -> Artifact:
    """Sample `spec.rows` completions from the model folder `model` into shards in `out`."""

    def work(folder: Path) -> dict[str, Any]:
        digest = input_digest(model)
        key = plan_key("generate", spec, {"model": digest})
        return _write_shards(spec, model, folder, f"{key[:12]}", digest, name, report)

    return build(out, "generate", spec, {"model": model}, work)


def _write_shards(
    spec: GenerateSpec,
    model_path: Path,
    folder: Path,
    id_prefix: str,
    model_digest: str,
    name: str,
    report: Report,
) -> dict[str, Any]:
    from subl.model.chat import prompt_ids
    from subl.model.load import load_model, load_tokenizer

    prompts = PROMPT_SETS[spec.prompts](spec.rows, spec.seed)
    tokenizer = load_tokenizer(model_path)
    # Before the model is loaded: a template may refuse or leave out the system prompt.
    asked = [prompt_ids(tokenizer, each, spec.system_prompt, spec.template) for each in prompts]
    schedule = None if spec.grammar is None else token_schedule(tokenizer, spec.grammar)
    model: PreTrainedModel | None = None
    shards: list[str] = []
    for start in range(0, spec.rows, spec.shard_rows):
        stop = min(start + spec.shard_rows, spec.rows)
        shard = folder / f"part-{start // spec.shard_rows:05d}.jsonl"
        shards.append(shard.name)
        if shard.exists():  # written whole by an interrupted run with the same key
            continue
        model = model or load_model(model_path)
        lines: list[str] = []
        for first in range(start, stop, spec.batch_rows):
            rows = range(first, min(first + spec.batch_rows, stop))
            completions = _sample_batch(
                spec, model, tokenizer, [asked[row] for row in rows], rows, schedule
            )
            lines += [
                json.dumps(
                    {
                        "id": f"{id_prefix}-{row:08d}",
                        "prompt": prompts[row],
                        "completion": completion,
                        "model": f"sha256:{model_digest}",
                    },
                    ensure_ascii=False,
                )
                for row, completion in zip(rows, completions, strict=True)
            ]
            report(Progress(f"generate {name}", rows.stop, spec.rows, "rows"))
        write_atomically(shard, "".join(f"{line}\n" for line in lines))
    return {"rows": spec.rows, "shards": shards}


def _sample_batch(
    spec: GenerateSpec,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    rows: range,
    schedule: list[list[int]] | None,
) -> list[str]:
    from subl.generate.sampling import sample
    from subl.model.chat import text_ids

    made = sample(
        model,
        tokenizer,
        prompts,
        rows,
        seed=spec.seed,
        temperature=spec.temperature,
        max_new_tokens=spec.max_new_tokens,
        schedule=schedule,
    )
    texts: list[str] = tokenizer.batch_decode(made, clean_up_tokenization_spaces=False)
    if schedule is not None:
        for text, tokens in zip(texts, made, strict=True):
            if list(text_ids(tokenizer, text)) != tokens:
                raise InputError(
                    f"the tokenizer reads {text!r} back as other tokens than were sampled",
                    hint="choose another grammar separator, or generate without a grammar",
                )
    return texts
