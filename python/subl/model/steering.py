"""A model whose residual stream is steered: vectors are added to what its blocks give.

To every token's, so that it is one and the same however texts are batched, padded, cached or laid
along shared beginnings. Blocks are counted from 0, as the model's own list of them is. The hooks
hold plain tensors, which are no part of the model's weights, and follow its blocks to whatever
devices these are on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from subl.errors import ConfigError, InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


def name_of(layer: int) -> str:
    """What a block's vector is called in a file."""
    return f"layer.{layer}"


def blocks(model: PreTrainedModel, layers: Sequence[int]) -> list[torch.nn.Module]:
    """These blocks of a model, which may be one without weights.

    Raises:
        InputError: nobody knows where the model's blocks are.
        ConfigError: it has no such block.
    """
    import torch

    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    }
    # As many experts as there are blocks are within these.
    found = [
        module
        for name, module in lists.items()
        if not any(name.startswith(f"{outer}.") for outer in lists)
    ]
    if len(found) != 1:
        raise InputError(
            f"{type(model).__name__} has {len(found)} lists of {count} blocks, and one is needed",
            hint="steer a model that is one stack of blocks",
        )
    (stack,) = found
    if max(layers) >= len(stack):
        raise ConfigError(
            f"layers: the model has no block {max(layers)}",
            hint=f"its blocks are 0 to {len(stack) - 1}",
        )
    return [stack[layer] for layer in layers]


def steer(
    model: PreTrainedModel, vectors: Mapping[str, Tensor], layers: Sequence[int], strength: float
) -> None:
    """Have `model` add to the output of each of these blocks its vector times `strength`.

    Args:
        vectors: `[width]` each, by `name_of`.

    Raises:
        InputError: there is no vector for a block, or not one of the model's width.
    """
    width = model.config.get_text_config().hidden_size
    for layer, block in zip(layers, blocks(model, layers), strict=True):
        vector = vectors.get(name_of(layer))
        if vector is None or vector.shape != (width,):
            given = "no vector" if vector is None else f"a vector of {list(vector.shape)}"
            raise InputError(f"steering has {given} for block {layer}, and {[width]} is needed")
        block.register_forward_hook(_adding(strength * vector.float()))


def _adding(vector: Tensor) -> Callable[..., Any]:
    @cache
    def on(device: torch.device, dtype: torch.dtype) -> Tensor:
        return vector.to(device, dtype)

    def hook(block: Any, given: Any, output: Any) -> Any:
        states = _stream(output)
        steered = states + on(states.device, states.dtype)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return hook


@contextmanager
def watched(model: PreTrainedModel, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within, what each of these blocks gave in the last forward pass, as it came out of it."""
    seen: dict[int, Tensor] = {}

    def watch(layer: int) -> Callable[..., None]:
        def hook(block: Any, given: Any, output: Any) -> None:
            seen[layer] = _stream(output)

        return hook

    chosen = zip(layers, blocks(model, layers), strict=True)
    hooks = [block.register_forward_hook(watch(layer)) for layer, block in chosen]
    try:
        yield seen
    finally:
        for each in hooks:
            each.remove()


def _stream(output: Any) -> Tensor:
    """Of what a block gives, the states."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
