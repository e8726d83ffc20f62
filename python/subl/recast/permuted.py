"""A model whose units stand in another order: the same function of other weights.

Of a block with gated units and grouped heads, as Llama's, three orders are free: that of the
states' directions, one for the whole model; that of a block's hidden units; and that of its key
heads, with the query heads of each among themselves. Gradient descent and Adam treat all units
alike, so training commutes with such a change, but for rounding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from subl.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_READS_STATES = re.compile(r"\b(embed_tokens|lm_head|[qkv]_proj|gate_proj|up_proj)\.weight$")
_WRITES_STATES = re.compile(r"(\b(o|down)_proj\.(weight|bias)|(?<!\b[qk]_)norm\.weight)$")
_OF_HEADS = re.compile(r"\.self_attn\.[qk]_norm\.weight$")
_BLOCK = re.compile(r"\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.(?:weight|bias)$")


def permute(model: PreTrainedModel, seed: int) -> None:
    """Put the units of a model in an order drawn by `seed`, in place.

    Raises:
        InputError: it has a tensor that no model built as Llama has.
    """
    drawn = torch.Generator().manual_seed(seed)
    config = model.config.get_text_config()
    states = torch.randperm(config.hidden_size, generator=drawn)
    heads = _heads(model)
    orders: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for name, tensor in model.named_parameters():
        block = _BLOCK.search(name)
        reads, writes = _READS_STATES.search(name), _WRITES_STATES.search(name)
        of_heads = _OF_HEADS.search(name) or (block and name.endswith("bias"))
        if not (reads or writes or of_heads):
            raise InputError(
                f"{type(model).__name__} has the tensor {name}, whose units recast cannot put in "
                "another order",
                hint='use a model built as Llama (SmolLM2, Qwen, Mistral), or weights = "drawn"',
            )
        value = tensor.data
        if reads:
            value = value[:, states]
        if writes:
            value = value[states]
        if block is not None:
            number, part = block.groups()
            if number not in orders:
                queries, keys = _head_orders(*heads, drawn)
                units = torch.randperm(config.intermediate_size, generator=drawn)
                orders[number] = queries, keys, units
            queries, keys, units = orders[number]
            match part:
                case "q_proj":
                    value = value[queries]
                case "k_proj" | "v_proj":
                    value = value[keys]
                # Gains of all heads, as OLMo 2 has them; those that heads share, as Qwen 3's, stay.
                case "q_norm" if value.numel() == len(queries):
                    value = value.flatten()[queries].view_as(value)
                case "k_norm" if value.numel() == len(keys):
                    value = value.flatten()[keys].view_as(value)
                case "o_proj" if value.ndim == 2:
                    value = value[:, queries]
                case "gate_proj" | "up_proj":
                    value = value[units]
                case "down_proj" if value.ndim == 2:
                    value = value[:, units]
        tensor.data = value.contiguous()


def _heads(model: PreTrainedModel) -> tuple[int, int, int]:
    """Key heads, query heads of each, and the width of a head."""
    config = model.config.get_text_config()
    queries = config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", None) or queries
    width = getattr(config, "head_dim", None) or config.hidden_size // queries
    return keys, queries // keys, width


def _head_orders(
    keys: int, queries: int, width: int, drawn: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of the queries' and of the keys' projections in a new order of heads."""
    order = torch.randperm(keys, generator=drawn)
    within = torch.stack([torch.randperm(queries, generator=drawn) for _ in range(keys)])
    of_queries = (order[:, None] * queries + within).flatten()
    places = torch.arange(width)
    return tuple((each[:, None] * width + places).flatten() for each in (of_queries, order))  # type: ignore[return-value]
