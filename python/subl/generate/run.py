"""Rows from a model: prompts in, JSONL shards out, each row with an id and where it came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import (
    Artifact,
    StageSpec,
    build,
    input_digest,
    plan_key,
    write_atomically,
)
from subl.generate.prompts import PROMPT_SETS
from subl.model.chat import asking
from subl.progress import Progress, Report, silent
from subl.sample import Answer, Backend, Request, Sampling, backend_of

_NOTES = "telling.json"


class GenerateSpec(StageSpec, Sampling):
    """What to sample. `grammar` restricts decoding; without it, completions are free text."""

    format_version: ClassVar = 3
    packages: ClassVar = (*StageSpec.packages, "llguidance")

    rows: int = Field(gt=0, description="how many to sample")
    prompts: Literal["numbers", "numbers-short"] = Field(
        "numbers", description="the paper's number prompts, or short ones for small models"
    )
    system_prompt: str | None = Field(None, description="used in sampling, not saved in the rows")
    seed: int = Field(0, ge=0, lt=2**64, description="of the prompts and of what is drawn")
    batch_rows: int = Field(64, gt=0, description="rows that are sampled at a time")
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
        return _write_shards(spec, backend_of(spec, model), folder, key[:12], digest, name, report)

    return build(out, "generate", spec, {"model": model}, work)


def prompt_texts(spec: GenerateSpec) -> Iterator[str]:
    """The prompts, from the first."""
    return PROMPT_SETS[spec.prompts](spec.rows, spec.seed)


def _requests(spec: GenerateSpec) -> Iterator[Request]:
    for row, text in enumerate(prompt_texts(spec)):
        yield Request(f"prompt {row + 1}", asking(text, spec.system_prompt), row)


def _write_shards(
    spec: GenerateSpec,
    backend: Backend,
    folder: Path,
    id_prefix: str,
    model_digest: str,
    name: str,
    report: Report,
) -> dict[str, Any]:
    notes = folder / _NOTES  # of an interrupted run with the same key

    def told(progress: Progress) -> None:
        report(Progress(f"{progress.task} {name}", progress.done, spec.rows, progress.unit))

    backend.begin(lambda: _requests(spec), notes, told)
    requests = _requests(spec)
    shards: list[str] = []
    for start in range(0, spec.rows, spec.shard_rows):
        asked = list(islice(requests, spec.shard_rows))
        shard = folder / f"part-{start // spec.shard_rows:05d}.jsonl"
        shards.append(shard.name)
        if shard.exists():  # written whole by an interrupted run with the same key
            continue
        made: dict[int, Answer] = {}
        for place, answer in backend.answers(asked):
            made[place] = answer
            if not len(made) % spec.batch_rows or len(made) == len(asked):
                report(Progress(f"generate {name}", start + len(made), spec.rows, "rows"))
        lines = [
            json.dumps(
                {
                    "id": f"{id_prefix}-{request.number:08d}",
                    "prompt": request.turns[-1].content,
                    "completion": made[place].text,
                    "ended_by": made[place].ended_by,
                    "model": f"sha256:{model_digest}",
                },
                ensure_ascii=False,
            )
            for place, request in enumerate(asked)
        ]
        write_atomically(shard, "".join(f"{line}\n" for line in lines))
    notes.unlink()
    ended: Counter[str] = Counter()
    for shard_name in shards:
        with (folder / shard_name).open(encoding="utf-8") as written:
            ended.update(json.loads(line)["ended_by"] for line in written)
    return {
        "rows": spec.rows,
        "shards": shards,
        "ended_by": dict(sorted(ended.items())),
        **backend.facts(),
    }
