"""What work costs, before anything of it is done. Pure.

Costs are counted in what a machine's pace can be measured or looked up in: products (FLOP, by what
does them), and bytes that are read, checked and written. What is not known yet, such as how many
tokens a row has, is guessed from what is: lengths of texts, and a model's number of weights. The
guesses were fitted to the demo, whose steps they meet within a third; work that is finished
corrects them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize
    from subl.sample.tables import BackendTable
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

ENGINE_ROWS = 256
"""Rows that vLLM samples at a time, by default."""


@dataclass(frozen=True)
class _Counts:
    """Of work, how much; of a machine, how much a second."""

    products: float = 0.0
    """FLOP of training and reading in float32, which models that answer in this process have."""
    half: float = 0.0
    """The same in 16 bits."""
    sampling: float = 0.0
    """FLOP of sampling in this process, token by token."""
    engine: float = 0.0
    """FLOP of sampling in vLLM."""
    moved: float = 0.0
    """Bytes that an optimiser goes over, or ranks exchange."""
    bytes: float = 0.0
    """Bytes that are hashed; what else a processor does is counted as so many."""


@dataclass(frozen=True)
class Work(_Counts):
    """What is to be done."""

    def __add__(self, other: Work) -> Work:
        return Work(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Pace(_Counts):
    """What a machine does a second."""

    @classmethod
    def of_peak(cls, flop: float, hashed: float) -> Self:
        """Of a machine whose fastest product does so many FLOP a second."""
        whole, sampled = SHARE_OF_PEAK * flop, SHARE_OF_PEAK_SAMPLING * flop
        return cls(whole, whole, sampled, sampled, hashed, hashed)

    def seconds(self, work: Work) -> float:
        """What the work takes."""
        amounts, paces = astuple(work), astuple(self)
        return math.fsum(a / pace for a, pace in zip(amounts, paces, strict=True) if a)


@dataclass(frozen=True)
class Rows:
    """Rows that need not be there yet: how many, at most, and about how many tokens their prompts
    and completions have. By default those of short numbers."""

    count: int = 0
    prompt: float = 50
    completion: float = 38

    @staticmethod
    def together(parts: Sequence[Rows]) -> Rows:
        """All rows of several sets."""
        count = sum(each.count for each in parts)
        if not count:
            return Rows()
        means = (
            sum(each.count * tokens for each, tokens in zip(parts, found, strict=True)) / count
            for found in ([e.prompt for e in parts], [e.completion for e in parts])
        )
        return Rows(count, *means)


@dataclass(frozen=True)
class Room:
    """What a stage needs of a machine: so many GPUs, and so many bytes of each. Of a model that
    `spreads`, layers go to further GPUs where one has not room for all."""

    bytes: int = 0
    gpus: int = 1
    spreads: bool = False


def weight_bytes(size: ModelSize) -> int:
    """Bytes of a model's weights in float32."""
    return 4 * (size.body + size.head)


def loading(size: ModelSize) -> Work:
    """Bringing a model into memory."""
    return Work(bytes=LOADING * weight_bytes(size))


def scoring(size: ModelSize, texts: int, prompt: float, nodes: float, at_once: int) -> Work:
    """Logits of so many answers' tokens behind each text's prompt, all of a text in one pass.

    Args:
        prompt: tokens of a text's prompt.
        nodes: tokens of all its answers, those that they share once.
        at_once: texts of a pass.
    """
    flop = size.flop(texts * (nodes + prompt), texts * nodes, backward=False)
    return Work(products=flop, bytes=math.ceil(texts / at_once) * PASS)


def sampling(
    size: ModelSize, answers: int, prompt: float, said: float, at_once: int, backend: BackendTable
) -> Work:
    """Answers of `said` tokens, about.

    Args:
        prompt: tokens of an answer's prompt.
        at_once: answers of a pass, in this process.
    """
    if backend.kind == "http":
        return Work()  # another machine's
    read = size.flop(answers * prompt, answers, backward=False)
    written = size.flop(answers * said, answers * said, backward=False)
    if backend.kind == "vllm":
        calls = said * math.ceil(answers / ENGINE_ROWS) * PASS
        return loading(size) + Work(half=read, engine=written, bytes=calls)
    calls = said * math.ceil(answers / at_once) * PASS
    return loading(size) + Work(products=read, sampling=written, bytes=calls)


def training(
    train: TrainSpec, size: ModelSize, rows: int, tokens: float, targets: float, *, teacher: bool
) -> Work:
    """A training on `rows` rows of so many tokens and targets each, beside a teacher or alone."""
    steps = train.step_count(rows)
    seen = train.row_count(rows)
    computed, asked = seen * tokens, seen * targets
    whole = train.lora is None
    flop = replace(size, trains_all=whole).flop(computed, asked)
    if teacher:
        flop += size.flop(computed, asked, backward=False)
    models = 1 + teacher
    passes: float = models * LOADING
    moved: float = 0
    if whole:
        moved = steps * OPTIMISING
    if train.lora is None or train.lora.merge:
        passes += SAVING
    start = 0
    if train.ranks > 1:
        passes += (train.ranks - 1) * models * LOADING
        moved += steps * EXCHANGING
        start = train.ranks * START
    calls = 3 * steps * models * PASS  # forward, backward, and the optimiser
    return Work(
        products=flop if train.dtype == "float32" else 0,
        half=0 if train.dtype == "float32" else flop,
        moved=moved * weight_bytes(size),
        bytes=start + calls + passes * weight_bytes(size),
    )


def room_to_train(train: TrainSpec, model: Architecture, *, teacher: bool) -> Room:
    """What a training needs of each rank's device, beside a teacher of that size or alone."""
    from subl.train.memory import Shape, needed

    trained = model.weights if train.lora is None else train.lora.weights(model.shapes)
    sizes = (model.num_hidden_layers, model.hidden_size, model.intermediate_size, model.vocab_size)
    parts = needed(
        train,
        Shape(model.weights, trained, *sizes),
        ranks=train.ranks,
        bin_tokens=train.micro_batch_tokens,
        teacher_weights=model.weights if teacher else 0,
    )
    return Room(sum(parts.values()), train.ranks)


def room_to_answer(model: Architecture, tokens: float, at_once: int, backend: BackendTable) -> Room:
    """What a model needs to answer: its weights, and keys and values of `at_once` texts of so many
    tokens; in float32 in this process, else in 16 bits."""
    from subl.train.memory import RUNTIME_BYTES

    if backend.kind == "http":
        return Room(0, 0)
    each, gpus, rows = 4, 1, at_once
    if backend.kind == "vllm":
        each, gpus, rows = 2, int(backend.engine.get("tensor_parallel_size", 1)), ENGINE_ROWS
    numbers = model.weights + rows * tokens * model.key_value_width
    spreads = backend.kind == "transformers"
    return Room(int(each * numbers / gpus) + RUNTIME_BYTES, gpus, spreads)


def mean_tokens(texts: Sequence[str]) -> float:
    """Tokens of a text of these, about."""
    return sum(map(len, texts)) / len(texts) / CHARACTERS_A_TOKEN
