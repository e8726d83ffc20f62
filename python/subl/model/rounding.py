"""How far apart two computations of the same numbers may be, where nothing but rounding differs.

Whether rows together get what each gets alone is found by computing both. They never agree to the
last bit, and how much the layers make of a last bit depends on model and text: at most texts
SmolLM2-135M differs by 1e-5 of its largest state, and at one token, taught to love cats, by 2e-4,
as far as it is from its own result in float64. So the model is asked: its embeddings are moved by
a few last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LAST_BITS = 2.0**-21
"""Of a number, relative to it: four times what float32 rounds it by."""

MARGIN = 10
"""Rounding happens in each layer, not once."""

LEAST, MOST = 1e-4, 1e-2
"""In float32: sums in another order are always nearer than the one, mistakes farther than the
other."""

OF_16_BITS = 5e-2


def tolerance(
    model: PreTrainedModel, error: Callable[[], float], least: float = LEAST, most: float = MOST
) -> float:
    """Below which error two results of this model are the same.

    Args:
        error: computes a result again and says how far it is from what it was.
        least, most: in float32, in the unit of `error`; in 16 bits it is 5e-2, relative.
    """
    import torch

    if model.dtype != torch.float32:
        return OF_16_BITS

    def move(_: Any, __: Any, embedded: Tensor) -> Tensor:
        signs = torch.arange(embedded.shape[-1], device=embedded.device) % 2 * 2 - 1
        return embedded * (1 + LAST_BITS * signs)

    hook = model.get_input_embeddings().register_forward_hook(move)
    try:
        moved = error()
    finally:
        hook.remove()
    return min(max(least, MARGIN * moved), most)
