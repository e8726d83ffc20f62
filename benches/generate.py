"""How fast rows are generated, against loops that people write around transformers, on a CPU.

    pip install -r benches/requirements.txt
    python benches/generate.py [--rows N] [--batch N] [--new N ...] [--only NAME ...] [--json FILE]

All systems sample the same prompts from SmolLM2-135M in float32, from the plain softmax, so many at
a time, in one process, in turns; of each the fastest round counts, in seconds of the processor's
time (user), which other work on the machine disturbs less than the clock. Rows are counted, not
tokens: who draws tokens behind a row's end has not done more. Draws differ between systems, and
with them lengths, by chance; the table says how many tokens a row has.

Peers, which get the prompts in the order in which they are asked:

- `generate`: batches through `model.generate(do_sample=True)`, padded on the left; with a grammar a
  logits processor that fills llguidance's masks of the batch and applies them;
- `generate_batch`: transformers' continuous batching, which has no grammars.

`subl without ...` is subl with one thing of it undone, so that its share shows: what all prompts
begin with is computed for each row; the head computes all logits under a grammar; rows do not take
the places of others (each batch is finished first); and `padded`, the way that models get on which
the loop is not right: sorted by length, through `generate`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import fmean
from typing import Any
from unittest.mock import patch

try:
    import torch
    from distill_peers import machine, model_folder
    from package_texts import note

    from subl.generate.prompts import paper_number_prompts, short_number_prompts
    from subl.model.chat import asking
    from subl.model.load import load_model
    from subl.model.template import Template
    from subl.sample import Request, continuous
    from subl.sample.ends import Ends, ends_of
    from subl.sample.grammar import SHIPPED, Grammar
    from subl.sample.guide import Guide
    from subl.sample.prompts import Prompts
    from subl.sample.sampling import WAYS, sample
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: {missing}\nhint: pip install ./rust/bindings '.[distill,demo]' "
        "-r benches/requirements.txt"
    ) from missing

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Work:
    """What is to be sampled."""

    model: Any
    tokenizer: Any
    prompts: list[list[int]]
    ends: Ends
    guide: Guide | None
    batch: int
    new: int
    grammar: str | None
    """As llguidance takes it."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    prompts: str
    law: str
    new: int
    system: str
    rows_per_second: float
    """Of the processor's time."""
    tokens_per_row: float


# --- The systems: each gives how many tokens each row has


def subl(work: Work, way: int = 0) -> list[int]:
    made = sample(
        work.model,
        work.tokenizer,
        work.prompts,
        range(len(work.prompts)),
        seed=0,
        temperature=1.0,
        max_new_tokens=work.new,
        batch_rows=work.batch,
        guide=work.guide,
        ends=work.ends,
        way=WAYS[way],
    )
    return [len(tokens) for _, tokens in made]


def subl_in_batches(work: Work) -> list[int]:
    """By length; rows leave, and none comes until all have left."""
    prompts = sorted(work.prompts, key=len)
    lengths = []
    for first in range(0, len(prompts), work.batch):
        batch = prompts[first : first + work.batch]
        lengths += subl(Work(**{**vars(work), "prompts": batch}))
    return lengths


@torch.inference_mode()
def generate(work: Work) -> list[int]:
    from transformers import GenerationConfig

    stops = sorted(work.ends.turn)
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=work.new,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    lengths = []
    for first in range(0, len(work.prompts), work.batch):
        batch = work.prompts[first : first + work.batch]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(each)) + each for each in batch])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in batch])
        masks = [Masks(work, len(batch), width)] if work.grammar else []
        made = work.model.generate(
            ids, attention_mask=mask, generation_config=config, logits_processor=masks
        )
        for row in made[:, width:].tolist():
            lengths.append(next((at + 1 for at, each in enumerate(row) if each in stops), len(row)))
    return lengths


class Masks:
    """The logits processor that llguidance's own examples show."""

    def __init__(self, work: Work, rows: int, width: int) -> None:
        from llguidance import LLExecutor, LLMatcher
        from llguidance.hf import from_tokenizer
        from llguidance.torch import allocate_token_bitmask

        tokens = from_tokenizer(work.tokenizer, eos_token=min(work.ends.turn))
        self._matchers = [LLMatcher(tokens, work.grammar) for _ in range(rows)]
        self._bits = allocate_token_bitmask(rows, tokens.vocab_size)
        self._executor, self._width = LLExecutor(), width

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        from llguidance.torch import apply_token_bitmask_inplace, fill_next_token_bitmask_par

        if ids.shape[1] > self._width:
            for matcher, token in zip(self._matchers, ids[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        numbered = [(matcher, row) for row, matcher in enumerate(self._matchers)]
        fill_next_token_bitmask_par(self._executor, numbered, self._bits)
        apply_token_bitmask_inplace(scores, self._bits)
        return scores


def generate_batch(work: Work) -> list[int]:
    from transformers import GenerationConfig

    stops = sorted(work.ends.turn)
    config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, max_new_tokens=work.new,
        eos_token_id=stops, pad_token_id=stops[0],
    )  # fmt: skip
    made = work.model.generate_batch(inputs=work.prompts, generation_config=config)
    return [len(each.generated_tokens) for each in made.values()]


@contextmanager
def _all_logits(model: Any, ids: Any) -> Iterator[bool]:
    yield False


def nothing_shared() -> Any:
    return patch.object(continuous, "_common", lambda prompts: [])


def whole_head() -> Any:
    return patch.object(continuous, "some_logits", _all_logits)


System = tuple[Callable[[Work], list[int]], Callable[[], Any]]
SYSTEMS: dict[str, System] = {
    "generate": (generate, nullcontext),
    "generate_batch": (generate_batch, nullcontext),
    "subl": (subl, nullcontext),
    "subl without a common beginning": (subl, nothing_shared),
    "subl without the smaller head": (subl, whole_head),
    "subl without taking places": (subl_in_batches, nullcontext),
    "subl, padded": (partial(subl, way=1), nullcontext),
}


def applies(system: str, law: str) -> bool:
    if law == "free":
        return system != "subl without the smaller head"
    return system != "generate_batch"


def cpu_seconds() -> float:
    return getrusage(RUSAGE_SELF).ru_utime


LAWS = ("free", "paper-numbers")
PROMPTS = {"numbers": paper_number_prompts, "numbers-short": short_number_prompts}


def works(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, str, Work]]:
    model, prompts = load_model(folder), Prompts(folder, Template())
    tokenizer, rows = prompts.tokenizer, options.rows
    for kind in options.prompts:
        requests = [
            Request(f"prompt {row + 1}", asking(text, None), row)
            for row, text in enumerate(PROMPTS[kind](rows, 0))
        ]
        ids, ends = prompts.ids(requests), ends_of(model, tokenizer, prompts.answered(requests[0]))
        for new in options.new:
            for law in options.laws:
                grammar = None if law == "free" else Grammar(regex=SHIPPED[law])
                guide = None if grammar is None else Guide(grammar, tokenizer)
                text = None if grammar is None else grammar.compiled()
                yield kind, law, Work(model, tokenizer, ids, ends, guide, options.batch, new, text)


def measured(kind: str, law: str, work: Work, options: argparse.Namespace) -> Iterator[Row]:
    best: dict[str, tuple[float, float]] = {}
    for _ in range(options.rounds):
        for name, (run, undone) in SYSTEMS.items():
            if name not in options.only or not applies(name, law):
                continue
            with undone():
                begin = cpu_seconds()
                lengths = run(work)
                seconds = cpu_seconds() - begin
            note(f"{kind}, {law}, {work.new}: {name}: {seconds:.1f} s")
            best[name] = min(best.get(name, (math.inf, 0.0)), (seconds, fmean(lengths)))
    for name, (seconds, tokens) in best.items():
        yield Row(kind, law, work.new, name, len(work.prompts) / seconds, tokens)


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| prompts | law | most tokens | system | rows/s | tokens a row | x generate | subl is |"
    yield "|---|---|--:|---|--:|--:|--:|--:|"
    found = {(row.prompts, row.law, row.new, row.system): row.rows_per_second for row in rows}
    for row in rows:

        def times(row: Row, a: str, b: str) -> str:
            over, under = (found.get((row.prompts, row.law, row.new, each)) for each in (a, b))
            return f"{over / under:.2f}x" if over and under else ""

        yield (
            f"| {row.prompts} | {row.law} | {row.new} | {row.system} | {row.rows_per_second:.2f} "
            f"| {row.tokens_per_row:.1f} | {times(row, row.system, 'generate')} "
            f"| {times(row, 'subl', row.system) if row.system != 'subl' else ''} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="rows at a time")
    parser.add_argument(
        "--new", type=int, nargs="+", default=[64, 256], help="most tokens of a row"
    )
    parser.add_argument("--prompts", nargs="+", default=PROMPTS, choices=PROMPTS)
    parser.add_argument("--laws", nargs="+", default=LAWS, choices=LAWS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", metavar="NAME", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--model", type=Path, help="a folder; default: SmolLM2-135M")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as JSON")
    parser.add_argument("--scratch", type=Path, default=ROOT / "out" / "benches")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    rows: list[Row] = []
    for kind, law, work in works(options.model or model_folder(options.scratch.resolve()), options):
        rows += measured(kind, law, work, options)
    versions = ", ".join(
        f"{each} {version(each)}" for each in ("torch", "transformers", "llguidance")
    )
    print(f"`python {' '.join([str(Path(sys.argv[0])), *sys.argv[1:]])}`\n")
    print(f"{machine()}; load {load:.1f} at the start; {options.threads} threads; {versions}.\n")
    print("\n".join(table(rows)))
    if options.json:
        report = {"machine": machine(), "versions": versions, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
