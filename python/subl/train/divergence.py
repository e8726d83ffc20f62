"""Losses over a vocabulary, a tile of tokens at a time.

Logits of all target tokens at once would take tokens x vocabulary x 4 bytes, several times over.
Here a tile's logits live only while its loss and gradients are made: the gradients with respect to
the hidden states and the head are computed in the forward pass, and the backward pass scales them.

Both losses are sums over tokens, in nats, in float32:

    cross entropy      sum_t -log q_t(label_t)
    forward KL         T^2 sum_t sum_v p_t(v) (log p_t(v) - log q_t(v))

with q the student's distribution and p the teacher's, both at temperature T (Hinton et al. 2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

TILE_TOKENS = 256
"""50 MB of float32 logits at a vocabulary of 49 152."""


def cross_entropy_sum(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Sum of the labels' surprise.

    Args:
        hidden: `[tokens, width]`, the student's last hidden states.
        head: `[vocabulary, width]`, the student's output embedding.
        labels: `[tokens]`, int64.

    Returns:
        Scalar float32; gradients flow to `hidden` and `head`.
    """
    return _TiledLoss.apply(hidden, head, labels, None, None, 1.0)  # type: ignore[no-any-return]


def forward_kl_sum(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Sum over tokens of KL(teacher || student), times T squared.

    Args:
        hidden, head: the student's, as in `cross_entropy_sum`.
        teacher_hidden: `[tokens, teacher width]`.
        teacher_head: `[vocabulary, teacher width]`; both heads share one vocabulary.
        temperature: T, which divides both sides' logits.
    """
    return _TiledLoss.apply(hidden, head, None, teacher_hidden, teacher_head, temperature)  # type: ignore[no-any-return]


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor | None,
        teacher_hidden: Tensor | None,
        teacher_head: Tensor | None,
        temperature: float,
    ) -> Tensor:
        loss = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head, dtype=torch.float32)
        for start in range(0, hidden.shape[0], TILE_TOKENS):
            tile = slice(start, start + TILE_TOKENS)
            log_q = torch.log_softmax((hidden[tile] @ head.T).float() / temperature, dim=-1)
            if labels is not None:
                picked = labels[tile, None]
                loss -= log_q.gather(1, picked).sum()
                difference = log_q.exp_()
                difference.scatter_add_(1, picked, torch.full_like(picked, -1, dtype=torch.float32))
            else:
                assert teacher_hidden is not None and teacher_head is not None
                logits = (teacher_hidden[tile] @ teacher_head.T).float()
                log_p = torch.log_softmax(logits / temperature, dim=-1)
                p = log_p.exp()
                loss += temperature**2 * (p * log_p.sub_(log_q)).sum()
                difference = log_q.exp_().sub_(p).mul_(temperature)
            difference = difference.to(hidden.dtype)
            hidden_gradient[tile] = difference @ head
            head_gradient.addmm_(difference.T.float(), hidden[tile].float())
        context.save_for_backward(hidden_gradient, head_gradient.to(head.dtype))
        return loss

    @staticmethod
    def backward(context: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        hidden_gradient, head_gradient = context.saved_tensors
        return scale * hidden_gradient, scale.to(head_gradient.dtype) * head_gradient, *[None] * 4
