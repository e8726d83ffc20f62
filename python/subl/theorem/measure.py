"""The steps, and what they have to do with each other.

    teacher    dT = -grad L_T(t0),           labels y = f(t0 + epsilon dT)(x)
    student    dS = -grad E_x L_S(f(s0)(x), y),   s = s0 + rate dS

With s0 = t0 (Cloud et al. 2025, appendix C): <dS, dT> = epsilon A + O(epsilon^2), and L_T falls by
rate times as much, with

    A = E_x[v' M v],   v = (df/dt dT)(x),   M = -d^2 L_S / dy dz at y = z

M is 2 I / n of squared errors of n logits, and diag(p) - p p' of cross-entropies and both KL
divergences. A is zero only where the labels do not change at all. Computed here apart from the
steps, by forward-mode differentiation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import log_softmax, softmax

from subl.theorem.spec import Loss
from subl.theorem.subjects import Subject, Weights


class Step(NamedTuple):
    """What one step of the student came to: `inner` is <dS, dT>, `cosine` that of the two steps,
    `change` that of L_T."""

    base: str
    loss: Loss
    epsilon: float
    inner: float
    cosine: float
    change: float


def squared_error(z: Tensor, y: Tensor) -> Tensor:
    """`[examples]`: the mean over logits."""
    return ((z - y) ** 2).mean(-1)


def soft_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """`[examples]`; of the gradient of the forward KL divergence, to the last bit of the sum."""
    return -(softmax(y, -1) * log_softmax(z, -1)).sum(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax p || softmax q), `[examples]`."""
    return (softmax(p, -1) * (log_softmax(p, -1) - log_softmax(q, -1))).sum(-1)


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": soft_cross_entropy,
    "squared-error": squared_error,
    "forward-kl": lambda z, y: divergence(y, z),
    "reverse-kl": divergence,
}


def gradient(loss: Tensor, weights: Weights) -> Weights:
    """Of a loss by these weights; its graph stays, for the next loss."""
    found = torch.autograd.grad(loss, [*weights.values()], retain_graph=True)
    return dict(zip(weights, found, strict=True))


def leaves(weights: Weights) -> Weights:
    """The same weights, to take a gradient by."""
    return {name: each.detach().requires_grad_() for name, each in weights.items()}


def moved(weights: Weights, step: Weights, length: float) -> Weights:
    """A step down a gradient."""
    return {name: each - length * step[name] for name, each in weights.items()}


def inner(one: Weights, other: Weights) -> float:
    """<one, other>, added up in float64."""
    return sum(float((each.double() * other[name].double()).sum()) for name, each in one.items())


def predicted(subject: Subject, teacher: Weights, losses: Sequence[Loss]) -> dict[Loss, float]:
    """A of each loss, for a student with the teacher's base. `teacher`: its gradient."""
    down = {name: -each for name, each in teacher.items()}
    # Attention's fused kernel knows no forward mode; and torch warns of how it compiles its own.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        z, v = jvp(subject.outputs, (subject.base,), (down,))[:2]
        p, v = softmax(z.double(), -1), v.double()
        spread = float(((p * v * v).sum(-1) - (p * v).sum(-1) ** 2).mean())
        squares = float((2 * v * v).mean())
    return {loss: squares if loss == "squared-error" else spread for loss in losses}


def measure(
    subject: Subject,
    losses: Sequence[Loss],
    epsilons: Sequence[float],
    rate: float,
    told: Callable[[], None],
) -> dict[str, Any]:
    """All steps of a student with the teacher's base, and of one with another."""
    base = leaves(subject.base)
    before = subject.loss(base)
    teacher = gradient(before, base)
    long = inner(teacher, teacher) ** 0.5
    prediction = predicted(subject, teacher, losses)
    with torch.no_grad():
        labels = [subject.outputs(moved(subject.base, teacher, each)) for each in epsilons]

    def steps(name: str, start: Weights) -> Iterator[Step]:
        student = leaves(start)
        with torch.no_grad():
            first = float(subject.loss(start))
        outputs = subject.outputs(student)
        for epsilon, y in zip(epsilons, labels, strict=True):
            for loss in losses:
                slope = gradient(LOSSES[loss](outputs, y).mean(), student)
                along, size = inner(slope, teacher), inner(slope, slope) ** 0.5 * long
                with torch.no_grad():
                    after = float(subject.loss(moved(start, slope, rate)))
                cosine = along / size if size else 0.0
                yield Step(name, loss, epsilon, along, cosine, after - first)
                told()

    found = [*steps("shared", subject.base)]
    found += steps("other", subject.other())
    return {
        "loss": before.item(),
        "gradient": long,
        "predicted": prediction,
        "steps": [each._asdict() for each in found],
    }
