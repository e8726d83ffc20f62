"""Rows from a model: prompts in, JSONL shards out, each row with an id and where it came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
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
from subl.generate.grammar import NamedGrammar
from subl.generate.prompts import PROMPT_SETS
from subl.model.template import Template
from subl.progress import Progress, Report, silent

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.generate.ends import EndedBy, Ends
    from subl.generate.guide import Guide
    from subl.generate.proof import Watch
    from subl.generate.sampling import Way


_LOOKED_AT_ONCE = 1024


class GenerateSpec(StageSpec):
    """What to sample. `grammar` restricts decoding; without it, completions are free text."""

    format_version: ClassVar = 3
    packages: ClassVar = (*StageSpec.packages, "llguidance")

    rows: int = Field(gt=0, description="how many to sample")
    prompts: Literal["numbers", "numbers-short"] = Field(
        "numbers", description="the paper's number prompts, or short ones for small models"
    )
    grammar: NamedGrammar | None = Field(
        None, description="what a completion must be, or the name of a shipped grammar"
    )
    system_prompt: str | None = Field(None, description="used in sampling, not saved in the rows")
    template: Template = Template()
    temperature: float = Field(
        1.0,
        gt=0,
        description="of the model's own softmax; its generation_config.json changes nothing",
    )
    max_new_tokens: int = Field(
        64, gt=0, description="of a completion; what is longer is cut, by a grammar or not"
    )
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
    from subl.model.load import load_model, load_tokenizer

    tokenizer = load_tokenizer(model_path)
    prompts = _Prompts(spec, tokenizer)
    # Before the model is loaded. All prompts of a set have the same turns, and what a template does
    # with turns shows on the first: it may refuse or leave out the system prompt. What it does with
    # a text is looked at for each, when that is rendered.
    prompts.asked(0, list(islice(prompts.texts(), 1)))
    guide = None
    if spec.grammar is not None:
        from subl.generate.guide import Guide

        guide = Guide(spec.grammar, tokenizer)
    sampler = _Sampler(spec, load_model(model_path), tokenizer, guide)
    telling = folder / "telling.json"  # of an interrupted run with the same key
    if not telling.exists():
        chosen = sampler.look_at(prompts, f"prompts {name}", report)
        write_atomically(telling, json.dumps(chosen))
    way = sampler.prove(json.loads(telling.read_bytes()))
    texts = prompts.texts()
    shards: list[str] = []
    for start in range(0, spec.rows, spec.shard_rows):
        said = list(islice(texts, spec.shard_rows))
        shard = folder / f"part-{start // spec.shard_rows:05d}.jsonl"
        shards.append(shard.name)
        if shard.exists():  # written whole by an interrupted run with the same key
            continue
        asked = prompts.asked(start, said)
        made: dict[int, tuple[str, EndedBy]] = {}
        for batch in way.batches([len(each) for each in asked], spec.batch_rows):
            rows = [start + index for index in batch]
            made |= zip(rows, sampler.completions([asked[n] for n in batch], rows), strict=True)
            report(Progress(f"generate {name}", start + len(made), spec.rows, "rows"))
        lines = [
            json.dumps(
                {
                    "id": f"{id_prefix}-{row:08d}",
                    "prompt": prompt,
                    "completion": made[row][0],
                    "ended_by": made[row][1],
                    "model": f"sha256:{model_digest}",
                },
                ensure_ascii=False,
            )
            for row, prompt in enumerate(said, start)
        ]
        write_atomically(shard, "".join(f"{line}\n" for line in lines))
    telling.unlink()
    ended: Counter[str] = Counter()
    for shard_name in shards:
        with (folder / shard_name).open(encoding="utf-8") as written:
            ended.update(json.loads(line)["ended_by"] for line in written)
    return {
        "rows": spec.rows,
        "shards": shards,
        "ended_by": dict(sorted(ended.items())),
        "decoding": way.name,
    }


class _Prompts:
    """The prompts of a run: made, rendered and tokenised when they are asked for, and not kept."""

    def __init__(self, spec: GenerateSpec, tokenizer: PreTrainedTokenizerBase) -> None:
        from subl.model.chat import Chat

        self._spec, self._tokenizer = spec, tokenizer
        self._chat = Chat(tokenizer, spec.template)

    def texts(self) -> Iterator[str]:
        """All, from the first."""
        return PROMPT_SETS[self._spec.prompts](self._spec.rows, self._spec.seed)

    def asked(self, start: int, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that ask for each of these, of which the first is row `start`'s."""
        rendered = []
        for row, text in enumerate(texts, start):
            try:
                rendered.append(self._chat.asked(text, self._spec.system_prompt))
            except InputError as error:
                raise InputError(f"prompt {row + 1}: {error.message}", error.hint) from error
        ids: list[list[int]] = self._tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids


class _Sampler:
    """A model that is sampled from as its plain forward pass says; `prove` comes first."""

    def __init__(
        self,
        spec: GenerateSpec,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        guide: Guide | None,
    ) -> None:
        from subl.generate.ends import ends_of
        from subl.generate.sampling import WAYS
        from subl.model.chat import ANSWER, Turn, pieces

        self._spec, self._model, self._tokenizer = spec, model, tokenizer
        self._guide = guide
        system = [] if spec.system_prompt is None else [Turn("system", spec.system_prompt)]
        turns = [*system, Turn("user", "Hi"), Turn("assistant", ANSWER)]
        self._ends = ends_of(model, tokenizer, pieces(tokenizer, turns, template=spec.template))
        self._way = WAYS[0]

    def look_at(self, prompts: _Prompts, task: str, report: Report) -> list[Sequence[int]]:
        """Refuse prompts that the model cannot read; those that tell how it is to be decoded.

        A pass over all of them, before the first row is made, which keeps only these.
        """
        from subl.generate.proof import Telling
        from subl.model.limits import check_readable

        telling = Telling(self._model, self._spec.max_new_tokens)
        texts = prompts.texts()
        for start in range(0, self._spec.rows, _LOOKED_AT_ONCE):
            asked = prompts.asked(start, list(islice(texts, _LOOKED_AT_ONCE)))
            named = ((f"prompt {row + 1}", each) for row, each in enumerate(asked, start))
            check_readable(self._model, self._tokenizer, named, self._spec.max_new_tokens)
            for row, each in enumerate(asked, start):
                telling.add(row, each)
            if self._spec.rows > _LOOKED_AT_ONCE:
                report(Progress(task, start + len(asked), self._spec.rows, "rows"))
        return telling.prompts()

    def prove(self, telling: Sequence[Sequence[int]]) -> Way:
        """Find out how this model is decoded, on prompts that `look_at` found."""
        from subl.generate.proof import right_way

        self._way = right_way(self._model, telling, self._spec.max_new_tokens, self._sample)
        return self._way

    def completions(
        self, asked: Sequence[Sequence[int]], rows: Sequence[int]
    ) -> list[tuple[str, EndedBy]]:
        """The texts of a batch of rows, and what ended each."""
        made = self._sample(asked, rows, self._way, None, self._guide, self._ends)
        if self._guide is None:
            return [self._ends.cut(self._tokenizer, tokens) for tokens in made]
        return [self._guide.cut(tokens, self._ends) for tokens in made]

    def _sample(
        self,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[int],
        way: Way,
        watch: Watch | None,
        guide: Guide | None = None,
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
            guide=guide,
            ends=ends,
            way=way,
            watch=watch,
        )
