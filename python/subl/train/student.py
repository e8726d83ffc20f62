"""The module that is trained: a causal language model whose forward pass returns its loss.

The loss lives inside `forward`, so the hooks of ZeRO and of data parallelism fire, and the head is
whole where it is read. Rows are padded on the right and no mask is passed: attention is causal, so
no real token ever sees padding, and padding is never a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from subl.errors import InputError
from subl.model.chat import Example
from subl.train.divergence import cross_entropy_sum, forward_kl_sum

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Batch:
    """`input_ids`: `[rows, length]` int64. `targets`: `[rows, length - 1]` bool, true where the
    NEXT token is one that the loss counts (the mask is shifted already)."""

    input_ids: Tensor
    targets: Tensor


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Pad rows to one length. Raises where a row has no target token."""
    length = max(len(each) for each in examples)
    input_ids = torch.zeros((len(examples), length), dtype=torch.int64)
    targets = torch.zeros((len(examples), length - 1), dtype=torch.bool)
    for row, each in enumerate(examples):
        if not each.prompt_ids or not each.completion_ids:
            raise InputError("a row needs at least one prompt token and one completion token")
        start, stop = len(each.prompt_ids), len(each)
        input_ids[row, :stop] = torch.tensor([*each.prompt_ids, *each.completion_ids])
        targets[row, start - 1 : stop - 1] = True
    return Batch(input_ids.to(device), targets.to(device))


class Student(torch.nn.Module):
    """Wraps the model to train, and the frozen teacher that it is compared with, if any."""

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: PreTrainedModel | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        # In a tuple, so that the teacher's parameters are not the student's.
        self._teacher = (teacher,)

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Sum of the loss over the batch's target tokens, in nats; float32 scalar."""
        hidden, head = _hidden_states(self.model, input_ids, targets)
        (teacher,) = self._teacher
        if teacher is None:
            return cross_entropy_sum(hidden, head, input_ids[:, 1:][targets])
        with torch.no_grad():
            teacher_hidden, teacher_head = _hidden_states(teacher, input_ids, targets)
        return forward_kl_sum(hidden, head, teacher_hidden, teacher_head, self.temperature)


def _hidden_states(
    model: PreTrainedModel, input_ids: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Last hidden states at the positions that predict targets, `[tokens, width]`, and the head."""
    states = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return states[:, :-1][targets], model.get_output_embeddings().weight


_LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def check_head(model: PreTrainedModel) -> None:
    """Prove that last hidden state times head are the model's logits, or refuse the model.

    Some models scale or cap their logits after the head (Gemma 2, Cohere, Granite); the tiled
    losses would silently train another objective on them.
    """
    input_ids = torch.arange(4, device=model.device)[None]
    with torch.no_grad():
        logits = model(input_ids=input_ids, use_cache=False).logits
        states = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        ours = states @ model.get_output_embeddings().weight.T
    # A cap bends small logits by less than bfloat16 rounds: ask the configuration as well.
    changed = any(getattr(model.config, name, None) not in (None, 1.0) for name in _LOGIT_CHANGES)
    if changed or not torch.allclose(ours.float(), logits.float(), rtol=1e-2, atol=1e-2):
        raise InputError(
            f"{type(model).__name__} changes its logits after the output head, or its head has a "
            "bias; training it is not supported",
            hint="use a model whose logits are the last hidden state times the head",
        )


def check_vocabularies(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Refuse a teacher whose logits do not line up with the student's."""
    sizes = [m.get_output_embeddings().weight.shape[0] for m in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"student and teacher have different vocabularies ({sizes[0]} and {sizes[1]} tokens)",
            hint="logit distillation needs a teacher and a student with one tokenizer",
        )
