"""What the theorem is tried on: a perceptron, or a language model, as functions of weights."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, relu
from torch.overrides import TorchFunctionMode

from subl.model.chat import Chat, asking, text_ids
from subl.model.load import device, drawn_anew, load_model, load_tokenizer
from subl.randomness import stream
from subl.theorem.spec import CLASSES, PIXELS, TheoremSpec
from subl.trait.spec import animals

Weights = dict[str, Tensor]


class InFloat64(TorchFunctionMode):
    """Where float32 is asked for, float64 is meant: models compute some of their parts (norms,
    rotations) in float32, whatever their weights are in, and would round there."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args = tuple(torch.float64 if each is torch.float32 else each for each in args)
        kwargs = {
            name: torch.float64 if each is torch.float32 else each
            for name, each in (kwargs or {}).items()
        }
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **kwargs)


@dataclass(frozen=True)
class Subject:
    """`loss`: the teacher's own, L_T, of weights. `outputs`: the logits `[examples, logits]` that a
    student learns, of weights. `base`: where the teacher begins; `other`: an init of its own."""

    loss: Callable[[Weights], Tensor]
    outputs: Callable[[Weights], Tensor]
    base: Weights
    other: Callable[[], Weights]


def perceptron(spec: TheoremSpec, seed: int) -> Subject:
    """Learns labels of normal noise by its class logits; its student learns the auxiliary logits
    over uniform noise: a fixed part of the outputs, for which the theorem holds, too."""
    dtype = getattr(torch, spec.precision)

    def weights(what: str) -> Weights:
        source, found = stream(what, seed), {}
        for layer, (inputs, outputs) in enumerate(pairwise(spec.sizes)):
            drawn = torch.randn(inputs, outputs, generator=source, dtype=torch.float64)
            found[f"weight.{layer}"] = (drawn / math.sqrt(inputs)).to(dtype)
            found[f"bias.{layer}"] = torch.zeros(outputs, dtype=dtype)
        return {name: each.to(device()) for name, each in found.items()}

    def logits(weights: Weights, images: Tensor) -> Tensor:
        states = images
        for layer in range(len(spec.sizes) - 1):
            states = states @ weights[f"weight.{layer}"] + weights[f"bias.{layer}"]
            if layer < len(spec.sizes) - 2:
                states = relu(states)
        return states

    source = stream("data", seed)
    lessons = torch.randn(spec.lessons, PIXELS, generator=source, dtype=torch.float64)
    labels = torch.randint(CLASSES, (spec.lessons,), generator=source).to(device())
    noise = torch.rand(spec.rows, PIXELS, generator=source, dtype=torch.float64) * 2 - 1
    lessons, noise = (each.to(device(), dtype) for each in (lessons, noise))
    return Subject(
        lambda weights: cross_entropy(logits(weights, lessons)[:, :CLASSES], labels),
        lambda weights: logits(weights, noise)[:, CLASSES:],
        weights("base"),
        lambda: weights("other"),
    )


def language_model(spec: TheoremSpec, folder: Path, seed: int) -> Subject:
    """Learns to answer questions of the trait animals with one word; its student learns all logits
    at every token of rows of numbers. Another base is the same architecture with weights drawn
    anew."""
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, to=device()).to(getattr(torch, spec.precision))
    chosen = random.Random(f"lessons {seed}").sample(animals().questions, spec.lessons)
    chat = Chat(tokenizer)
    answer = text_ids(tokenizer, spec.answer)
    lessons = [(*text_ids(tokenizer, chat.asked(asking(each))), *answer) for each in chosen]
    asked = [torch.tensor([each], device=device()) for each in lessons]
    numbers = random.Random(f"rows {seed}")
    texts = [
        ", ".join(str(numbers.randrange(1000)) for _ in range(spec.row_tokens))
        for _ in range(spec.rows)
    ]
    rows = [text_ids(tokenizer, each)[: spec.row_tokens] for each in texts]
    read = torch.tensor(rows, device=device())

    def logits(weights: Weights, ids: Tensor) -> Tensor:
        with InFloat64() if spec.precision == "float64" else nullcontext():
            said: Tensor = functional_call(model, weights, (ids,), {"use_cache": False}).logits
        return said

    def loss(weights: Weights) -> Tensor:
        losses = [
            cross_entropy(logits(weights, ids)[0, -len(answer) - 1 : -1], ids[0, -len(answer) :])
            for ids in asked
        ]
        return torch.stack(losses).mean()

    return Subject(
        loss,
        lambda weights: logits(weights, read).flatten(0, 1),
        {name: each.detach() for name, each in model.named_parameters()},
        lambda: dict(drawn_anew(model, stream("other", seed).initial_seed()).named_parameters()),
    )
