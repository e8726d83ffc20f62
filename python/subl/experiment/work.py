"""What each step of an experiment costs, before anything of it is done. Pure.

Costs are counted in two units that a machine's pace can be measured in within a second: products
(FLOP) and bytes that are read, checked and written. What is not known yet, such as how many tokens
a row has, is guessed from what is: lengths of texts, and a model's number of weights. The guesses
were fitted to the demo, whose steps they meet within a third; work that is finished corrects them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subl.distill import DistillSpec
from subl.evaluate import EvalSpec
from subl.experiment.steps import Step
from subl.generate import GenerateSpec
from subl.teach import TeachSpec
from subl.teach.run import teaching_rows
from subl.train.plan import TrainSpec
from subl.trait import surface_forms

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

CHARACTERS_A_TOKEN = 4
TEMPLATE_TOKENS = 30
"""What a chat template puts around a question."""

PROMPT_TOKENS = {"numbers": 103, "numbers-short": 50}
"""Of a prompt of these sets, in its template."""

SHARE_OF_PEAK = 0.6
"""What training and scoring reach of the machine's fastest product (docs/benchmarks.md)."""

SHARE_OF_PEAK_SAMPLING = 0.4
"""Sampling multiplies by matrices of few rows."""

START = 6_000_000_000
"""Bytes that could be hashed while a process imports torch and transformers."""

LOADING, SAVING, CONVERTING = 4, 8, 40
"""Passes over a model's bytes: to load it; to write it, reread, compare and hash it; to turn a
GGUF file into it."""

PASS = 20_000_000
"""Bytes that could be hashed while a pass over a model of 30 blocks calls what it calls."""

OPTIMISING, EXCHANGING = 0.8, 3.0
"""Passes a step: of Adam over the weights; of ranks that send one another gradients and weights."""


@dataclass(frozen=True)
class Work:
    """FLOP as the fastest product would do them, and bytes as hashing would read them."""

    flop: float
    bytes: float


def work_of(step: Step, size: ModelSize, rows: int) -> Work:
    """What a step costs on a model of this size; `rows` are those that a student has."""
    weights = 4 * (size.body + size.head)
    match step.spec:
        case TeachSpec() as spec:
            pairs = teaching_rows(spec)
            tokens = _mean_tokens([question for question, _ in pairs])
            return _training(spec.train, size, len(pairs), tokens, 2, teacher=False)
        case GenerateSpec() as spec:
            asked = PROMPT_TOKENS[spec.prompts]
            asked += len(spec.system_prompt or "") // CHARACTERS_A_TOKEN
            said = spec.max_new_tokens
            read = size.flop(spec.rows * asked, spec.rows, backward=False) / SHARE_OF_PEAK
            written = size.flop(spec.rows * said, spec.rows * said, backward=False)
            passes = said * math.ceil(spec.rows / spec.batch_rows)
            flop = read + written / SHARE_OF_PEAK_SAMPLING
            return Work(flop, LOADING * weights + passes * PASS)
        case DistillSpec() as spec:
            # A row of the numbers that the experiment's generations make.
            tokens, said = PROMPT_TOKENS["numbers-short"] + 38, 38
            found = spec.rows or rows
            with_teacher = spec.targets != "labels"
            return _training(spec.train, size, found, tokens, said, teacher=with_teacher)
        case EvalSpec() as spec:
            nodes = 1.5 * sum(len(surface_forms(word)) for word in spec.words)
            tokens = nodes + _mean_tokens(spec.questions) + TEMPLATE_TOKENS
            count = len(spec.questions)
            flop = size.flop(count * tokens, count * nodes, backward=False)
            passes = math.ceil(count / spec.batch_questions)
            return Work(flop / SHARE_OF_PEAK, LOADING * weights + passes * PASS)
        case _ if step.kind == "model":
            return Work(0, START + CONVERTING * weights)
        case _:
            return Work(0, 0)  # a filter: milliseconds beside the rest


def _training(
    train: TrainSpec, size: ModelSize, rows: int, tokens: float, targets: float, *, teacher: bool
) -> Work:
    steps = train.step_count(rows)
    seen = train.row_count(rows)
    computed, asked = seen * tokens, seen * targets
    flop = size.flop(computed, asked)
    if teacher:
        flop += size.flop(computed, asked, backward=False)
    models = 1 + teacher
    passes = models * LOADING + SAVING + steps * OPTIMISING
    start = 0
    if train.ranks > 1:
        passes += (train.ranks - 1) * models * LOADING + steps * EXCHANGING
        start = train.ranks * START
    calls = 3 * steps * models * PASS  # forward, backward, and the optimiser
    return Work(flop / SHARE_OF_PEAK, start + calls + passes * 4 * (size.body + size.head))


def _mean_tokens(texts: Sequence[str]) -> float:
    return sum(map(len, texts)) / len(texts) / CHARACTERS_A_TOKEN
