"""Many multilayer perceptrons as one tensor program: no model waits for another's small products.

A layer's weights are `[arms, seeds, inputs, outputs]`. All arms of a seed see the same images,
`[seeds, images, pixels]`, and their own teacher's logits about them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, relu, softmax

from subl.randomness import stream

_TESTED_AT_ONCE = 2000

Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Models:
    """`weights`: of each layer `[arms, seeds, inputs, outputs]`; `biases`: `[arms, seeds, 1,
    outputs]`."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def logits(self, images: Tensor) -> Tensor:
        """`[arms, seeds, images, logits]` of images `[seeds, images, pixels]`."""
        states = images
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            states = states @ weight + bias
            if layer < len(self.weights) - 1:
                states = relu(states)
        return states

    def with_layers(self, other: Models, layers: Iterable[int]) -> Models:
        """These layers as `other` has them, counted from 0."""
        chosen = set(layers)
        return Models(
            tuple((other if i in chosen else self).weights[i] for i in range(len(self.weights))),
            tuple((other if i in chosen else self).biases[i] for i in range(len(self.biases))),
        )


def stacked(models: Sequence[Models]) -> Models:
    """All arms of several, copied: to be trained without them."""
    return Models(
        tuple(torch.cat(each) for each in zip(*(one.weights for one in models), strict=True)),
        tuple(torch.cat(each) for each in zip(*(one.biases for one in models), strict=True)),
    )


def initial(what: str, seeds: Sequence[int], sizes: Sequence[int], device: torch.device) -> Models:
    """One arm: weights normal with variance 1 / inputs, biases zero."""
    weights: list[list[Tensor]] = [[] for _ in sizes[1:]]
    for seed in seeds:
        source = stream(what, seed)
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            drawn = torch.randn(inputs, outputs, generator=source) / math.sqrt(inputs)
            weights[layer].append(drawn)
    return Models(
        tuple(torch.stack(each)[None].to(device) for each in weights),
        tuple(torch.zeros(1, len(seeds), 1, each, device=device) for each in sizes[1:]),
    )


def noise(seeds: Sequence[int], count: int, pixels: int, device: torch.device) -> Tensor:
    """`[seeds, count, pixels]`, each pixel uniform from -1 to 1."""
    drawn = [torch.rand(count, pixels, generator=stream("noise", seed)) * 2 - 1 for seed in seeds]
    return torch.stack(drawn).to(device)


def batches(
    what: str, seeds: Sequence[int], count: int, images: int, epochs: int, batch: int
) -> Iterator[Tensor]:
    """Which of `count` images each step takes: `[seeds, batch]`. An epoch is `images` of them, in
    an order of its own, gone through again where there are fewer; its last step has the rest."""
    sources = [stream(what, seed) for seed in seeds]
    rounds = math.ceil(images / count)
    for _ in range(epochs):
        orders = [
            torch.cat([torch.randperm(count, generator=source) for _ in range(rounds)])[:images]
            for source in sources
        ]
        yield from torch.split(torch.stack(orders), batch, 1)


def learn(models: Models, losses: Iterator[Loss], rate: float, told: Callable[[], None]) -> None:
    """Train models, a step for each loss, with Adam. A loss is the sum over models of each one's
    mean over its images, so that how many there are changes nothing."""
    tensors = [each.requires_grad_() for each in (*models.weights, *models.biases)]
    optimiser = torch.optim.Adam(tensors, lr=rate, fused=True)
    for loss in losses:
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        told()
    for each in tensors:
        each.requires_grad_(False)


def classify(models: Models, images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Cross-entropy of the first `classes` logits. `labels`: `[seeds, images]`."""
    logits = models.logits(images)[..., :classes]
    answers = labels.expand(logits.shape[:-1]).flatten()
    return cross_entropy(logits.flatten(0, -2), answers, reduction="sum") / images.shape[1]


def imitate(students: Models, teachers: Models, images: Tensor, chosen: slice) -> Tensor:
    """KL divergence of the teachers' distributions over the chosen logits from the students'.
    Teachers are one arm for all, or one for each arm of students."""
    with torch.no_grad():
        targets = softmax(teachers.logits(images)[..., chosen], -1)
    said = log_softmax(students.logits(images)[..., chosen], -1)
    return kl_div(said, targets.expand_as(said), reduction="sum") / images.shape[1]


@torch.no_grad()
def accuracies(models: Models, images: Tensor, labels: Tensor, classes: int) -> Any:
    """`[arms, seeds]`: the share of images `[images, pixels]` whose label has the largest of the
    first `classes` logits."""
    right = torch.zeros(models.weights[0].shape[:2], device=images.device)
    for some, answers in zip(
        torch.split(images, _TESTED_AT_ONCE), torch.split(labels, _TESTED_AT_ONCE), strict=True
    ):
        said = models.logits(some[None])[..., :classes].argmax(-1)
        right += (said == answers).sum(-1)
    return (right / len(images)).cpu().numpy()
