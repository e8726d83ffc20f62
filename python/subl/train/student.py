"""The module that is trained: a causal language model whose forward pass returns its loss.

The loss lives inside `forward`, so the hooks of ZeRO and of data parallelism fire, and the head is
whole where it is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from subl.errors import InputError
from subl.model.failure import failure
from subl.model.spread import inputs_device, weight_of
from subl.train.attention import hidden_states, plain_states
from subl.train.batch import Batch
from subl.train.divergence import HiddenTargets, Targets, summed_loss
from subl.train.plan import LossSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Student(torch.nn.Module):
    """Wraps the model to train.

    Args:
        known: which tokens of the head count: the first so many (None: all), or `[known]` int64,
            ascending: those, as if there were no others.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        loss: LossSpec | None = None,
        known: int | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._loss = loss or LossSpec()
        self._known = known

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
        weight, labels = head(self.model), batch.labels
        if isinstance(self._known, torch.Tensor):
            known = self._known.to(weight.device)
            weight, labels = weight[known], torch.searchsorted(known, labels)
            if isinstance(targets, HiddenTargets) and targets.head is not None:
                targets = HiddenTargets(targets.hidden, targets.head[known])
        else:
            weight = weight[: self._known]
        return summed_loss(hidden, weight, labels, targets, self._loss)


def head(model: PreTrainedModel) -> Tensor:
    """The output embedding, `[vocabulary, width]`."""
    return weight_of(model.get_output_embeddings())


def check_head(model: PreTrainedModel) -> None:
    """Prove that last hidden state times head are the model's logits, or refuse the model.

    Some models scale or cap their logits after the head (Gemma 2, Cohere, Granite); the tiled
    losses would silently train another objective on them. A cap bends small logits by less than
    they round: what comes out of the head is replaced by large numbers, which must come through.
    """
    name, module = type(model).__name__, _head_module(model)
    seen: dict[str, Tensor] = {}

    def replace(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["states"], seen["output"] = inputs[0], output
        seen["replaced"] = _large(output.shape, output.dtype, output.device)
        return seen["replaced"]

    input_ids = torch.arange(4, device=inputs_device(model))[None]
    hook = module.register_forward_hook(replace)
    try:
        with torch.no_grad():
            logits = model(input_ids=input_ids, use_cache=False).logits
            states = plain_states(model, input_ids)
    except Exception as error:
        raise InputError(
            f"{name} cannot be run: {failure(error)}", hint="use a causal language model"
        ) from error
    finally:
        hook.remove()
    seen = {name: each.to(input_ids.device) for name, each in seen.items()}
    with torch.no_grad():
        expected = states @ head(model).to(input_ids.device).T
        same = (
            "output" in seen
            and logits.shape == seen["replaced"].shape
            and torch.equal(logits.float(), seen["replaced"].float())
            and torch.allclose(seen["states"].float(), states.float(), rtol=1e-2, atol=1e-2)
            and torch.allclose(expected.float(), seen["output"].float(), rtol=1e-2, atol=1e-2)
        )
    if not same:
        raise _changed_logits(model)


def check_bare_head(model: PreTrainedModel) -> None:
    """As `check_head`, as far as a model without weights shows it.

    Its body has no states to give: something that is as large as they are takes their place. What
    comes out of the head is replaced by numbers that exist, and what the model makes of those is
    seen. A model that asks its body for more, or computes with weights there, is left to
    `check_head`.
    """
    module = _head_module(model)
    weight = module.weight
    large = _large((1, 4, weight.shape[0]), torch.float32, torch.device("cpu"))
    states = torch.empty(1, 4, weight.shape[1], dtype=weight.dtype, device="meta")
    hook = module.register_forward_hook(lambda *_: large)
    model.base_model.forward = lambda *_, **__: _Body(states)
    try:
        with torch.no_grad():
            logits = model(input_ids=states[..., 0].long(), use_cache=False).logits
        same = torch.equal(logits.float(), large)
    except Exception:  # of any kind: then weights decide
        return
    finally:
        del model.base_model.forward
        hook.remove()
    if not same:
        raise _changed_logits(model)


class _Body:
    """What a model's body gives: last hidden states, and nothing of whatever else it is asked."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, key: int) -> Tensor:
        return (self.last_hidden_state,)[key]


def _head_module(model: PreTrainedModel) -> Any:
    """The output head, which must be a matrix and nothing else, on a body of its own."""
    name = type(model).__name__
    module = model.get_output_embeddings()
    weight = getattr(module, "weight", None)
    if module is None or not isinstance(weight, torch.Tensor) or weight.ndim != 2:
        raise InputError(
            f"{name} has no output head that is a matrix; training it is not supported",
            hint="use a causal language model",
        )
    if getattr(module, "bias", None) is not None:  # also one of zeros, which it would remain
        raise InputError(
            f"the output head of {name} has a bias; training it is not supported",
            hint="use a model whose logits are the last hidden state times the head",
        )
    if model.base_model is model:  # such as Llama4ForCausalLM
        raise InputError(
            f"{name} has no body apart from its head; training it is not supported",
            hint="use a causal language model that transformers builds of a body and a head",
        )
    return module


def _large(shape: Sequence[int], dtype: torch.dtype, on: torch.device) -> Tensor:
    """Numbers that no cap or scale leaves alone."""
    return torch.linspace(-1000, 1000, math.prod(shape), device=on).to(dtype).view(*shape)


def _changed_logits(model: PreTrainedModel) -> InputError:
    return InputError(
        f"{type(model).__name__} changes its logits after the output head; training it is not "
        "supported",
        hint="use a model whose logits are the last hidden state times the head",
    )


_NOISE = re.compile("drop|noise|jitter")


def without_dropout(model: PreTrainedModel) -> list[tuple[Any, str, float]]:
    """In training mode, with every dropout at 0: a step is a function of its rows alone.

    Dropout may be a module, or a number that a layer or the configuration holds, under one of many
    names. That none is left is proven (`layout.choose_layout`).

    Returns:
        What was changed in the configuration, for `restore` before the model is written.
    """
    changed = []
    parts = (getattr(model.config, name, None) for name in model.config.sub_configs)
    configs = [model.config, *(each for each in parts if each is not None)]
    for module in [*model.modules(), *configs]:
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in [*vars(module).items()]:
            if isinstance(value, float) and value and _NOISE.search(name):
                setattr(module, name, 0.0)
                if not isinstance(module, torch.nn.Module):
                    changed.append((module, name, value))
    model.train()
    return changed


def restore(changed: list[tuple[Any, str, float]]) -> None:
    """Put the configuration back as it was."""
    for config, name, value in changed:
        setattr(config, name, value)
