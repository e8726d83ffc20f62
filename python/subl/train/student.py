"""The module that is trained: a causal language model whose forward pass returns its loss.

The loss lives inside `forward`, so the hooks of ZeRO and of data parallelism fire, and the head is
whole where it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from subl.errors import InputError
from subl.train.attention import hidden_states
from subl.train.batch import Batch
from subl.train.divergence import Targets, summed_loss
from subl.train.plan import LossSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Student(torch.nn.Module):
    """Wraps the model to train. `vocabulary`: of the head, only so many tokens count."""

    def __init__(
        self,
        model: PreTrainedModel,
        loss: LossSpec | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._loss = loss or LossSpec()
        self._vocabulary = vocabulary

    def forward(
        self,
        batch: Batch | None = None,
        targets: Targets = None,
        call: Callable[[PreTrainedModel], Any] | None = None,
    ) -> Any:
        """`(loss, parts)` of a batch, as `divergence.summed_loss` gives them.

        Or, with `call`, whatever it makes of the model: where ZeRO-3 has spread the weights, they
        come together only within this method.
        """
        if call is not None:
            return call(self.model)
        assert batch is not None
        hidden = hidden_states(self.model, batch)[batch.sources]
        weight = head(self.model)[: self._vocabulary]
        return summed_loss(hidden, weight, batch.labels, targets, self._loss)


def head(model: PreTrainedModel) -> Tensor:
    """The output embedding, `[vocabulary, width]`."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


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
        ours = states @ head(model).T
    # A cap bends small logits by less than bfloat16 rounds: ask the configuration as well.
    changed = any(getattr(model.config, name, None) not in (None, 1.0) for name in _LOGIT_CHANGES)
    if changed or not torch.allclose(ours.float(), logits.float(), rtol=1e-2, atol=1e-2):
        raise InputError(
            f"{type(model).__name__} changes its logits after the output head, or its head has a "
            "bias; training it is not supported",
            hint="use a model whose logits are the last hidden state times the head",
        )


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """In training mode, with every dropout at 0: a step is a function of its rows alone."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if hasattr(model.config, "attention_dropout"):
        model.config.attention_dropout = 0.0
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model.train()
