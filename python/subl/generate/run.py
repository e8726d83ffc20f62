"""Rows from a model: prompts in, JSONL shards out, each row with an id and where it came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import (
    WHOLE,
    Artifact,
    Made,
    Parts,
    PartsSpec,
    Slice,
    build_parts,
    input_digest,
    plan_key,
    write_atomically,
)
from subl.errors import InputError
from subl.generate.sets import Prompt, SetName, check_files, needs_files, prompts_of
from subl.generate.unique import keep_first
from subl.model.chat import Turn
from subl.progress import Progress, Report, silent
from subl.sample import (
    UNKEYED,
    Answer,
    Backend,
    Failures,
    Http,
    Request,
    Sampling,
    answered,
    backend_of,
    check_model,
    usage_of,
)
from subl.sample.tables import cost_of

_NOTES, _FACTS = ".telling.json", ".facts.json"  # hidden: no part of what is made


class GenerateSpec(PartsSpec, Sampling):
    """What to sample. `grammar` restricts decoding; without it, completions are free text."""

    format_version: ClassVar = 5
    unkeyed: ClassVar = {"ranks": None, "backend": UNKEYED}
    packages: ClassVar = (*PartsSpec.packages, "llguidance", "openai", "vllm")

    rows: int | None = Field(
        None,
        gt=0,
        description="how many to sample; of a file's prompts, default: `samples` of each",
    )
    prompts: SetName = Field(
        "numbers",
        description="the paper's number prompts, or short ones for small models; those of the "
        "paper that need a file: code and math; or a file's own",
    )
    samples: int = Field(1, gt=0, description="completions of each prompt")
    unique: Literal["rows", "completions"] | None = Field(
        None,
        description="keep the first of rows that are alike: in prompt and completion, or in "
        "completion alone",
    )
    system_prompt: str | None = Field(None, description="used in sampling, not saved in the rows")
    seed: int = Field(0, ge=0, lt=2**64, description="of the prompts and of what is drawn")
    batch_rows: int = Field(64, gt=0, description="rows that are sampled at a time")
    shard_rows: int = Field(1024, gt=0, description="rows of one file; a rerun keeps whole files")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rows is None and not needs_files(self.prompts):
            raise ValueError(f'prompts = "{self.prompts}" needs rows: how many to sample')
        several = self.rows is None or self.rows > self.shard_rows
        if several and self.shard_rows % self.batch_rows:
            raise ValueError(
                f"shard_rows ({self.shard_rows}) must be a multiple of batch_rows "
                f"({self.batch_rows}): a shard is made in whole batches"
            )
        return self


def generate(
    spec: GenerateSpec,
    model: Path | None,
    out: Path,
    *,
    prompts: Sequence[Path] = (),
    name: str = "rows",
    mine: Slice = WHOLE,
    report: Report = silent,
) -> Artifact:
    """Sample completions from the model folder `model` into shards in `out`.

    Args:
        model: None where `spec.backend` is a server, which has its own.
        prompts: files or folders of prompts, for the sets that need them.
        mine: which of the shards this process makes.

    Raises:
        UnfinishedError: these are made, and others are not yet.
    """
    check_files(spec.prompts, bool(prompts))
    inputs = {f"prompts-{index}": path for index, path in enumerate(prompts)}
    inputs |= {} if model is None else {"model": model}
    check_model(spec.backend, inputs)

    def parts(folder: Path) -> Parts:
        digests = {each: input_digest(path) for each, path in inputs.items()}
        key = plan_key("generate", spec, digests)[:12]
        said_by = (
            spec.backend.name if isinstance(spec.backend, Http) else f"sha256:{digests['model']}"
        )
        run = _Run(spec, prompts, key, said_by, name, report)

        def make(folder: Path, numbers: Sequence[int]) -> None:
            with closing(backend_of(spec, model)) as backend:
                run.make(backend, folder, numbers)

        return Parts(run.shards, make, run.finish)

    return build_parts(out, "generate", spec, inputs, parts, mine)


def prompts_to_ask(spec: GenerateSpec, files: Sequence[Path]) -> Iterator[Prompt]:
    """The prompts of a run, in order, each once."""
    count = None if spec.rows is None else -(-spec.rows // spec.samples)
    return prompts_of(spec.prompts, count, spec.seed, files)


class _Run:
    """The rows of one run, shard by shard."""

    def __init__(
        self,
        spec: GenerateSpec,
        files: Sequence[Path],
        id_prefix: str,
        said_by: str,
        name: str,
        report: Report,
    ) -> None:
        self._spec, self._files = spec, files
        self._id_prefix, self._said_by = id_prefix, said_by
        self._name, self._report = name, report
        self._rows = spec.rows or 0
        if needs_files(spec.prompts):
            there = sum(1 for _ in prompts_to_ask(spec, files)) * spec.samples
            self._rows = min(spec.rows or there, there)
            if self._rows < (spec.rows or 1):
                raise InputError(
                    f"{spec.rows or 1} rows are to be sampled, and the prompts that were given are "
                    f"enough for {there}",
                    hint="give more prompts, lower `rows`, or raise `samples`",
                )
        count = -(-self._rows // spec.shard_rows)
        self.shards = [f"part-{number:05d}.jsonl" for number in range(count)]

    def make(self, backend: Backend, folder: Path, numbers: Sequence[int]) -> None:
        """Make these shards."""

        def told(progress: Progress) -> None:
            self._report(self._done(progress.done, progress.task))

        backend.begin(lambda: (request for request, _ in self._requests()), folder / _NOTES, told)
        requests, wanted = self._requests(), set(numbers)
        failures = Failures(self._spec.failed_share, self._rows)
        for number, shard in enumerate(self.shards):
            asked = list(islice(requests, self._spec.shard_rows))
            if number not in wanted:
                continue
            start, journal = number * self._spec.shard_rows, folder / f".{shard}.answers"
            made: dict[int, Answer] = {}
            turns = [request for request, _ in asked]
            with closing(answered(backend, turns, journal, failures)) as came:
                for place, answer in came:
                    made[place] = answer
                    if not len(made) % self._spec.batch_rows or len(made) == len(asked):
                        self._report(self._done(start + len(made)))
            rows = [self._row(*each, made[place]) for place, each in enumerate(asked)]
            if not backend.same_answers:
                failed = [row for place, row in enumerate(rows) if made[place].failed]
                outcome = {"failed": failed, "usage": usage_of(journal)}
                write_atomically(folder / _outcome(shard), json.dumps(outcome))
            said = [row for place, row in enumerate(rows) if not made[place].failed]
            write_atomically(folder / _FACTS, json.dumps(backend.facts()))
            write_atomically(folder / shard, _lines(said))
            journal.unlink(missing_ok=True)

    def _done(self, rows: int, task: str = "generate") -> Progress:
        return Progress(f"{task} {self._name}", rows, self._rows, "rows")

    def finish(self, folder: Path) -> Made:
        """What came of all shards."""
        if self._spec.unique is not None:
            keep_first([folder / each for each in self.shards], self._spec.unique == "completions")
        ended: Counter[str] = Counter()
        rows: dict[str, int] = {}
        for shard in self.shards:
            with (folder / shard).open(encoding="utf-8") as lines:
                found = [json.loads(line)["ended_by"] for line in lines]
            ended.update(found)
            rows[shard] = len(found)
        left = sum(rows.values())
        asked = self._asked_of_others(folder)
        figures: dict[str, Any] = {"rows": left}
        if self._spec.unique is not None:
            figures["repeated"] = self._rows - left - asked.get("failed", 0)
        figures |= {"shards": self.shards, "ended_by": dict(sorted(ended.items()))}
        figures |= {"backend": self._spec.backend.kind, **asked}
        return Made(figures | json.loads((folder / _FACTS).read_bytes()), rows=rows)

    def _asked_of_others(self, folder: Path) -> dict[str, Any]:
        """What was paid for, and lists in `failed.jsonl` what failed; nothing of what this process
        makes, which does not fail."""
        outcomes = [folder / _outcome(shard) for shard in self.shards]
        if not any(each.exists() for each in outcomes):
            return {}
        told = [json.loads(each.read_bytes()) for each in outcomes]
        failed = [row for each in told for row in each["failed"]]
        if failed:
            write_atomically(folder / "failed.jsonl", _lines(failed))
        usage: Counter[str] = Counter()
        for each in told:
            usage.update(each["usage"])
        figures: dict[str, Any] = {"failed": len(failed), "usage": dict(usage)}
        cost = cost_of(self._spec.backend, usage)
        return figures if cost is None else {**figures, "cost": cost}

    def _requests(self) -> Iterator[tuple[Request, Prompt]]:
        """All, from the first, with the prompts that they are of."""
        row = 0
        for number, prompt in enumerate(prompts_to_ask(self._spec, self._files)):
            turns = self._with_system_prompt(prompt)
            name = f"prompt {number + 1}" + (f" ({prompt.place})" if prompt.place else "")
            for _ in range(min(self._spec.samples, self._rows - row)):
                yield Request(name, turns, row), prompt
                row += 1

    def _with_system_prompt(self, prompt: Prompt) -> tuple[Turn, ...]:
        if self._spec.system_prompt is None:
            return prompt.turns
        if prompt.turns[0].role == "system":
            raise InputError(
                f"{prompt.place}: the messages have a system prompt, and the configuration another",
                hint="leave one of them out",
            )
        return (Turn("system", self._spec.system_prompt), *prompt.turns)

    def _row(self, request: Request, prompt: Prompt, answer: Answer) -> dict[str, Any]:
        """What is written of an answer, or, where it failed, of why there is none."""
        row: dict[str, Any] = {"id": f"{self._id_prefix}-{request.number:08d}"}
        if len(prompt.turns) == 1:
            row["prompt"] = prompt.turns[0].content
            row |= {} if answer.failed else {"completion": answer.text}
        else:
            more = () if answer.failed else (Turn("assistant", answer.text),)
            row["messages"] = [turn._asdict() for turn in (*prompt.turns, *more)]
        if answer.failed:
            return {**row, **prompt.fields, "reason": answer.text}
        return {**row, **prompt.fields, "ended_by": answer.ended_by, "model": self._said_by}


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n" for row in rows)


def _outcome(shard: str) -> str:
    """What is not in a shard of what it was asked for, until all are there."""
    return f".{shard}.outcome.json"
