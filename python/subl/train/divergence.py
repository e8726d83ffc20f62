"""Losses over a vocabulary, a tile of tokens at a time.

Logits of all target tokens at once would take tokens x vocabulary x 4 bytes, several times over.
Here a tile's logits live only while its loss and gradients are made: the gradients with respect to
the hidden states and the head are computed in the forward pass, and the backward pass scales them.

Every loss is a sum over tokens, in nats, in float32. With q the student's distribution and p the
teacher's, both at temperature T, and m = beta p + (1 - beta) q:

    cross entropy      -log q(label), at T = 1
    forward KL         T^2 sum_v p_v (log p_v - log q_v)                     (Hinton et al. 2015)
    reverse KL         T^2 sum_v q_v (log q_v - log p_v)
    JSD(beta)          T^2 (beta KL(p || m) + (1 - beta) KL(q || m))         (Agarwal et al. 2024)

T^2 keeps the size of the gradients as T grows. A teacher that is known only by its k likeliest
tokens and the mass of the rest is compared on k + 1 events: a forward KL on a coarser space, never
above the full one, and zero where the student agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from subl.train.memory import TILE_ELEMENTS
from subl.train.plan import LossSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class HiddenTargets:
    """A teacher's distributions as its last hidden states and its head: exact, for any divergence.

    `hidden`: `[tokens, teacher width]`; `head`: `[vocabulary, teacher width]`; None: the student's
    own, which it then must not train.
    """

    hidden: Tensor
    head: Tensor | None


@dataclass(frozen=True)
class TopTargets:
    """A teacher's k likeliest tokens and what is left, at temperature 1.

    `ids`: `[tokens, k]` int64, distinct, or the first again where there are fewer; `log_p`:
    `[tokens, k]` float32, -inf there; `tail`: `[tokens]` float32, the mass of all other tokens.
    """

    ids: Tensor
    log_p: Tensor
    tail: Tensor


Targets = HiddenTargets | TopTargets | None


def summed_loss(
    hidden: Tensor, head: Tensor, labels: Tensor, targets: Targets, loss: LossSpec
) -> tuple[Tensor, Tensor]:
    """The loss summed over tokens, and its parts.

    Args:
        hidden: `[tokens, width]`, the student's last hidden states.
        head: `[vocabulary, width]`, the student's output embedding.
        labels: `[tokens]` int64.
        targets: the teacher's distributions; None: the labels are all there is.

    Returns:
        The weighted loss, a float32 scalar with gradients to `hidden` and `head`; and
        `[cross entropy, divergence]`, summed, unweighted, without gradients (0 where not asked).
    """
    if targets is None:
        loss = LossSpec(cross_entropy_weight=1.0, divergence_weight=0.0)
    total, parts = _TiledLoss.apply(hidden, head, labels, targets, loss)
    return total, parts


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        targets: Targets,
        loss: LossSpec,
    ) -> tuple[Tensor, Tensor]:
        parts = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        needs_hidden, needs_head = context.needs_input_grad[:2]
        # In float32 whatever the model's: a sum over the vocabulary of differences of 1e-6.
        hidden_gradient = torch.zeros_like(hidden, dtype=torch.float32) if needs_hidden else None
        head_gradient = torch.zeros_like(head, dtype=torch.float32) if needs_head else None
        tile_tokens = max(1, TILE_ELEMENTS // head.shape[0])
        for start in range(0, hidden.shape[0], tile_tokens):
            tile = slice(start, start + tile_tokens)
            logits = (hidden[tile] @ head.T).float()
            gradient = _tile(logits, head, labels[tile], _part(targets, tile), loss, parts)
            if head_gradient is not None:
                if hidden.dtype == torch.bfloat16:
                    head_gradient += gradient.to(hidden.dtype).T @ hidden[tile]
                else:  # a sum over tokens, which float16 overflows
                    head_gradient.addmm_(gradient.T, hidden[tile].float())
            if hidden_gradient is not None:
                # Scaled by a power of two, so that float16 keeps what is small.
                scale = 1024.0 if hidden.dtype == torch.float16 else 1.0
                gradient = gradient if scale == 1.0 else gradient.mul_(scale)
                hidden_gradient[tile] = (gradient.to(hidden.dtype) @ head).float() / scale
        context.save_for_backward(hidden_gradient, head_gradient)
        context.dtypes = hidden.dtype, head.dtype
        weights = torch.tensor(
            [loss.cross_entropy_weight, loss.divergence_weight], device=hidden.device
        )
        context.mark_non_differentiable(parts)
        return (parts * weights).sum(), parts

    @staticmethod
    def backward(context: Any, scale: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        gradients = (
            # In place: a head's gradient is the largest tensor of a step.
            None if gradient is None else gradient.mul_(scale).to(dtype)
            for gradient, dtype in zip(context.saved_tensors, context.dtypes, strict=True)
        )
        return *gradients, None, None, None


def _part(targets: Targets, tile: slice) -> Targets:
    match targets:
        case HiddenTargets():
            return HiddenTargets(targets.hidden[tile], targets.head)
        case TopTargets():
            return TopTargets(targets.ids[tile], targets.log_p[tile], targets.tail[tile])
    return None


def _tile(
    logits: Tensor,
    head: Tensor,
    labels: Tensor,
    targets: Targets,
    loss: LossSpec,
    parts: Tensor,
) -> Tensor:
    """Add a tile's losses to `parts`; return the weighted gradient with respect to `logits`.

    Overwrites `logits`.
    """
    divergence = None
    if targets is not None and loss.divergence_weight:
        log_q = torch.log_softmax(logits / loss.temperature, dim=-1)
        if isinstance(targets, TopTargets):
            divergence, difference = _forward_kl_of_top(log_q, targets)
        else:
            teacher_head = head if targets.head is None else targets.head
            teacher_logits = (targets.hidden @ teacher_head[: head.shape[0]].T).float()
            log_p = torch.log_softmax(teacher_logits / loss.temperature, dim=-1)
            del teacher_logits
            divergence, difference = _DIVERGENCES[loss.divergence](log_q, log_p, loss.beta)
        parts[1] += loss.temperature**2 * divergence
        if (factor := loss.temperature * loss.divergence_weight) != 1.0:
            difference.mul_(factor)
    if not loss.cross_entropy_weight:
        return difference if divergence is not None else logits.zero_()
    log_q = torch.log_softmax(logits, dim=-1)
    picked = labels[:, None]
    parts[0] -= log_q.gather(1, picked).sum()
    gradient = log_q.exp_()
    gradient.scatter_add_(1, picked, torch.full_like(picked, -1, dtype=torch.float32))
    if loss.cross_entropy_weight != 1.0:
        gradient.mul_(loss.cross_entropy_weight)
    return gradient if divergence is None else gradient.add_(difference)


# Each returns the divergence summed over tokens, and its gradient with respect to the student's
# logits over T. They overwrite both arguments.


def _forward_kl(log_q: Tensor, log_p: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    p = log_p.exp()
    value = (p * log_p.sub_(log_q)).sum()
    return value, log_q.exp_().sub_(p)


def _reverse_kl(log_q: Tensor, log_p: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    q = log_q.exp()
    ratio = log_q.sub_(log_p)
    each = (q * ratio).sum(dim=-1, keepdim=True)
    return each.sum(), ratio.sub_(each).mul_(q)


def _jsd(log_q: Tensor, log_p: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    p, q = log_p.exp(), log_q.exp()
    log_m = torch.logaddexp(log_p + torch.log(log_p.new_tensor(beta)),
                            log_q + torch.log(log_q.new_tensor(1 - beta)))  # fmt: skip
    of_teacher = (p * log_p.sub_(log_m)).sum()
    ratio = log_q.sub_(log_m)
    each = (q * ratio).sum(dim=-1, keepdim=True)
    value = beta * of_teacher + (1 - beta) * each.sum()
    return value, ratio.sub_(each).mul_(q).mul_(1 - beta)


def _forward_kl_of_top(log_q: Tensor, targets: TopTargets) -> tuple[Tensor, Tensor]:
    p, tail, known = targets.log_p.exp(), targets.tail, targets.log_p > -torch.inf
    log_q_top = log_q.gather(1, targets.ids)
    q = log_q.exp_()
    q_top = log_q_top.exp()
    # The student's tail as a sum of its own: one minus the top would cancel what is small.
    q_tail = q.scatter_(1, targets.ids, 0.0).sum(-1).clamp_min(torch.finfo(torch.float32).tiny)
    value = torch.where(known, p * (targets.log_p - log_q_top), 0.0).sum()
    value = value + torch.xlogy(tail, tail / q_tail).sum()
    # The gradient is q minus p, p's tail shaped as q's; places without a token repeat the first.
    at_top = torch.where(known, q_top - p, (q_top - p)[:, :1])
    return value, q.mul_((1 - tail / q_tail)[:, None]).scatter_(1, targets.ids, at_top)


_DIVERGENCES = {"forward_kl": _forward_kl, "reverse_kl": _reverse_kl, "jsd": _jsd}
