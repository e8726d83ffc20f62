"""What work costs, before anything of it is done. Pure.

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

if TYPE_CHECKING:
    from subl.train.meter import ModelSize
    from subl.train.plan import TrainSpec

CHARACTERS_A_TOKEN = 4
TEMPLATE_TOKENS = 30
"""What a chat template puts around a question."""

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

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.bytes + other.bytes)


def weight_bytes(size: ModelSize) -> int:
    """Bytes of a model's weights in float32."""
    return 4 * (size.body + size.head)


def loading(size: ModelSize) -> Work:
    """Bringing a model into memory."""
    return Work(0, LOADING * weight_bytes(size))


def scoring(size: ModelSize, texts: int, prompt: float, nodes: float, at_once: int) -> Work:
    """Logits of so many answers' tokens behind each text's prompt, all of a text in one pass.

    Args:
        prompt: tokens of a text's prompt.
        nodes: tokens of all its answers, those that they share once.
        at_once: texts of a pass.
    """
    flop = size.flop(texts * (nodes + prompt), texts * nodes, backward=False)
    return Work(flop / SHARE_OF_PEAK, math.ceil(texts / at_once) * PASS)


def sampling(size: ModelSize, answers: int, prompt: float, said: int, at_once: int) -> Work:
    """Answers of `said` tokens at most.

    Args:
        prompt: tokens of an answer's prompt.
        at_once: answers of a pass.
    """
    read = size.flop(answers * prompt, answers, backward=False) / SHARE_OF_PEAK
    tokens = answers * said
    written = size.flop(tokens, tokens, backward=False) / SHARE_OF_PEAK_SAMPLING
    return Work(read + written, said * math.ceil(answers / at_once) * PASS)


def training(
    train: TrainSpec, size: ModelSize, rows: int, tokens: float, targets: float, *, teacher: bool
) -> Work:
    """A training on `rows` rows of so many tokens and targets each, beside a teacher or alone."""
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
    return Work(flop / SHARE_OF_PEAK, start + calls + passes * weight_bytes(size))


def mean_tokens(texts: Sequence[str]) -> float:
    """Tokens of a text of these, about."""
    return sum(map(len, texts)) / len(texts) / CHARACTERS_A_TOKEN
