"""Attention over a micro-batch of rows that share nothing, or beginnings, but no attention.

Transformers lets a model use a registered function for attention. Ours gathers each row's keys and
queries along its path, pads only there, within groups of rows of like lengths, and runs causal SDPA
row by row: no mask of `[tokens, tokens]`, no row that sees another. Everything else in the model is
computed per token.

Measured on two cores, 8 number rows in one bin: a dense mask over the packed bin costs 1.3 times
the step (see docs/distill.md).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch

from subl.errors import DependencyError, InputError
from subl.train.batch import Batch, Paths

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

NAME = "subl_paths"
_UNSUPPORTED = ("softcap", "s_aux", "position_bias")


def use_path_attention(model: PreTrainedModel) -> None:
    """Have `model` attend along paths. Given none (scoring, generation) it attends as with SDPA."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    model.set_attn_implementation(NAME)


def use_own_attention(model: PreTrainedModel) -> None:
    """Have `model` attend as it does when transformers loads it."""
    own = model.get_correct_attn_implementation(None)
    model.set_attn_implementation(own)


def use_flash_attention(model: PreTrainedModel) -> None:
    """Have `model` attend with flash-attn, rows one after another."""
    require_flash()
    model.set_attn_implementation("flash_attention_2")


def require_flash() -> None:
    """Refuse flash attention where it is not installed: transformers would fetch code from the hub.

    Raises:
        DependencyError: says what to install.
    """
    if importlib.util.find_spec("flash_attn") is None:
        raise DependencyError(
            'attention = "flash" needs flash-attn', hint='pip install flash-attn, or use "sdpa"'
        )


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Last hidden states of all places of `batch.input_ids`, `[places, width]`."""
    if batch.paths is None:
        return plain_states(model, batch.input_ids).flatten(0, 1)
    more: dict[str, Any] = {"paths": batch.paths}
    if model.config._attn_implementation != NAME:  # flash attention, which shares no prefixes
        lengths = _row_lengths(batch)
        starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        longest = int(lengths.max())
        more = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts}
        more |= {"max_length_q": longest, "max_length_k": longest}
    given = {"input_ids": batch.input_ids, "position_ids": batch.position_ids}
    states: Tensor = model.base_model(**given, use_cache=False, **more).last_hidden_state[0]
    return states.to(batch.input_ids.device, model.dtype)


def plain_states(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Last hidden states `[rows, length, width]` of rows that are as long as one another."""
    states: Tensor = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    # As the head reads them: some bodies (Mamba) keep what flows through them in float32.
    return states.to(input_ids.device, model.dtype)


def _row_lengths(batch: Batch) -> Tensor:
    starts = torch.cat([
        (batch.position_ids[0] == 0).nonzero()[:, 0],
        torch.tensor([batch.position_ids.shape[1]], device=batch.position_ids.device),
    ])  # fmt: skip
    return starts.diff()


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    paths: Paths | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, None]:
    """`query`: `[1, heads, tokens, width]`; returns `[1, tokens, heads, width]`.

    `dropout` is ignored: a step is a function of its rows alone.
    """
    if any(more.get(name) is not None for name in _UNSUPPORTED):
        raise InputError(
            f"{type(module).__name__} bends its attention scores; training it is not supported"
        )
    if paths is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if attention_mask is None and query.shape[2] == key.shape[2]:
            attention_mask = _window(query.shape[2], sliding_window, query.device)
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
        return output, None
    if len(paths.nodes) == 1 and paths.nodes[0].shape == (1, query.shape[2]):
        return _causal(query, key, value, scaling, sliding_window), None  # one row alone
    outputs = []
    for nodes in paths.nodes:
        q, k, v = (_along(each, nodes) for each in (query, key, value))
        outputs.append(_causal(q, k, v, scaling, sliding_window).flatten(0, 1))
    whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return whole.index_select(0, paths.places)[None], None


def _causal(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, sliding_window: int | None
) -> Tensor:
    """`[rows, heads, length, width]` to `[rows, length, heads, width]`, each row along itself."""
    mask = _window(query.shape[2], sliding_window, query.device)
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    ).transpose(1, 2)


def _window(length: int, sliding_window: int | None, device: torch.device) -> Tensor | None:
    """Whom a token sees where it does not see all before it; None where it does."""
    if sliding_window is None or length <= sliding_window:
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position
    return (distance >= 0) & (distance < sliding_window)


def _along(states: Tensor, nodes: Tensor) -> Tensor:
    """`[1, heads, tokens, width]` to `[rows, heads, longest, width]`."""
    taken = states[0].transpose(0, 1).index_select(0, nodes.flatten())
    return taken.view(*nodes.shape, *taken.shape[1:]).transpose(1, 2)
