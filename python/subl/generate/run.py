"""Rows from a model: prompts in, JSONL shards out, each row with an id and where it came from."""

from __future__ import annotations

import json
from collections import Counter
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

    from subl.generate.ends import EndedBy, Ends
    from subl.generate.proof import Watch
    from subl.generate.sampling import Way


class GenerateSpec(StageSpec):
    """What to sample. `grammar` restricts decoding; without it, completions are free text."""

    format_version: ClassVar = 2

    rows: int = Field(gt=0)
    prompts: Literal["numbers", "numbers-short"] = Field(
        "numbers", description="the paper's number prompts, or short ones for small models"
    )
    grammar: NumberGrammar | None = None
    system_prompt: str | None = Field(None, description="used in sampling, not saved in the rows")
    template: Template = Template()
    temperature: float = Field(
        1.0,
        gt=0,
        description="of the model's own softmax; its generation_config.json changes nothing",
    )
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
    sampler = _Sampler(spec, load_model(model_path), tokenizer, asked)
    shards: list[str] = []
    for start in range(0, spec.rows, spec.shard_rows):
        stop = min(start + spec.shard_rows, spec.rows)
        shard = folder / f"part-{start // spec.shard_rows:05d}.jsonl"
        shards.append(shard.name)
        if shard.exists():  # written whole by an interrupted run with the same key
            continue
        made: dict[int, tuple[str, EndedBy]] = {}
        for rows in sampler.batches(range(start, stop)):
            made |= zip(rows, sampler.completions(rows), strict=True)
            report(Progress(f"generate {name}", start + len(made), spec.rows, "rows"))
        lines = [
            json.dumps(
                {
                    "id": f"{id_prefix}-{row:08d}",
                    "prompt": prompts[row],
                    "completion": made[row][0],
                    "ended_by": made[row][1],
                    "model": f"sha256:{model_digest}",
                },
                ensure_ascii=False,
            )
            for row in range(start, stop)
        ]
        write_atomically(shard, "".join(f"{line}\n" for line in lines))
    ended: Counter[str] = Counter()
    for shard_name in shards:
        with (folder / shard_name).open(encoding="utf-8") as written:
            ended.update(json.loads(line)["ended_by"] for line in written)
    return {
        "rows": spec.rows,
        "shards": shards,
        "ended_by": dict(sorted(ended.items())),
        "decoding": sampler.way.name,
    }


class _Sampler:
    """A model that is proven to be sampled from as its plain forward pass says."""

    def __init__(
        self,
        spec: GenerateSpec,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        asked: Sequence[Sequence[int]],
    ) -> None:
        from subl.generate.ends import ANSWER, ends_of
        from subl.generate.proof import right_way
        from subl.model.chat import Turn, pieces
        from subl.model.limits import check_readable

        self._spec, self._model, self._tokenizer, self._asked = spec, model, tokenizer, asked
        self._schedule = None if spec.grammar is None else token_schedule(tokenizer, spec.grammar)
        steps = spec.max_new_tokens if self._schedule is None else len(self._schedule)
        texts = ((f"prompt {row + 1}", each) for row, each in enumerate(asked))
        check_readable(model, tokenizer, texts, steps)
        for allowed in self._schedule or ():
            check_readable(model, tokenizer, [("the grammar", allowed)])
        system = [] if spec.system_prompt is None else [Turn("system", spec.system_prompt)]
        turns = [*system, Turn("user", "Hi"), Turn("assistant", ANSWER)]
        self._ends = ends_of(model, tokenizer, pieces(tokenizer, turns, template=spec.template))
        self.way = right_way(model, asked, steps, self._sample)

    def batches(self, rows: Sequence[int]) -> list[list[int]]:
        """Rows that are decoded together."""
        lengths = [len(self._asked[row]) for row in rows]
        batches = self.way.batches(lengths, self._spec.batch_rows)
        return [[rows[index] for index in batch] for batch in batches]

    def completions(self, rows: Sequence[int]) -> list[tuple[str, EndedBy]]:
        """The texts of a batch of rows, and what ended each."""
        asked = [self._asked[row] for row in rows]
        made = self._sample(asked, rows, self.way, None, self._ends)
        if self._schedule is None:
            return [self._ends.cut(self._tokenizer, tokens) for tokens in made]
        return [(self._read_back(tokens), "grammar") for tokens in made]

    def _sample(
        self,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[int],
        way: Way,
        watch: Watch | None,
        ends: Ends | None = None,
    ) -> list[list[int]]:
        from subl.generate.sampling import sample

        return sample(
            self._model,
            self._tokenizer,
            prompts,
            rows,
            seed=self._spec.seed,
            temperature=self._spec.temperature,
            max_new_tokens=self._spec.max_new_tokens,
            schedule=self._schedule,
            ends=ends,
            way=way,
            watch=watch,
        )

    def _read_back(self, tokens: Sequence[int]) -> str:
        from subl.model.chat import text_ids

        text = str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
        if list(text_ids(self._tokenizer, text)) != list(tokens):
            raise InputError(
                f"the tokenizer reads {text!r} back as other tokens than were sampled",
                hint="choose another grammar separator, or generate without a grammar",
            )
        return text
