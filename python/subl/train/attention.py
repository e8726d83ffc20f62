"""Attention over a micro-batch of rows that share nothing, or beginnings, but no attention.

Transformers lets a model use a registered function for attention. Ours gathers each row's keys and
queries along its path, pads only there, and runs causal SDPA row by row: no mask of
`[tokens, tokens]`, no row that sees another. Everything else in the model is computed per token.

Measured on two cores, 8 number rows in one bin: a dense mask over the packed bin costs 1.3 times
the step (see docs/distill.md).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch

from subl.errors import DependencyError, InputError
from subl.train.batch import Batch, Paths, collate

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


def use_flash_attention(model: PreTrainedModel) -> None:
    """Have `model` attend with flash-attn, rows one after another.

    Raises:
        DependencyError: it is not installed. (Transformers would fetch code from the hub.)
    """
    if importlib.util.find_spec("flash_attn") is None:
        raise DependencyError(
            'attention = "flash" needs flash-attn', hint='pip install flash-attn, or use "sdpa"'
        )
    model.set_attn_implementation("flash_attention_2")


def hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Last hidden states of all nodes, `[tokens, width]`."""
    more: dict[str, Any] = {"paths": batch.paths}
    if model.config._attn_implementation != NAME:  # flash attention, which shares no prefixes
        lengths = _row_lengths(batch)
        starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        longest = int(lengths.max())
        more = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts}
        more |= {"max_length_q": longest, "max_length_k": longest}
    states: Tensor = model.base_model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, **more
    ).last_hidden_state
    return states[0]


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
    rows, longest = paths.nodes.shape
    alone = rows == 1 and longest == query.shape[2]
    if not alone:
        query, key, value = (_along(each, paths.nodes) for each in (query, key, value))
    mask = _window(longest, sliding_window, query.device)
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    ).transpose(1, 2)
    if not alone:
        output = output.flatten(0, 1).index_select(0, paths.places)[None]
    return output, None


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


def prove_isolation(model: PreTrainedModel, *, share_prefixes: bool) -> None:
    """Refuse a model whose rows would see one another, or would not see their own beginning.

    Two rows together must give the states that the model gives for each alone, its own way.
    """
    import numpy as np

    first, second = ((np.array(ids, np.uint32), np.ones(len(ids), np.bool_))
                     for ids in ([1, 2, 3, 4, 5, 6, 7], [1, 2, 6, 3]))  # fmt: skip
    with torch.no_grad():
        together = collate([first, second], share_prefixes=share_prefixes).to(model.device)
        states = hidden_states(model, together)[together.sources].float()
        alone = torch.cat([
            model.base_model(
                input_ids=torch.from_numpy(ids.astype(np.int64))[None].to(model.device),
                use_cache=False,
            ).last_hidden_state[0, :-1].float()
            for ids, _ in (first, second)
        ])  # fmt: skip
        error = float((states - alone).abs().max() / alone.abs().max())
    if not error < (1e-4 if model.dtype == torch.float32 else 5e-2):
        raise InputError(
            f"rows of one micro-batch see one another in {type(model).__name__} "
            f"(relative error {error:.1e}); training it is not supported",
            hint="use a model whose layers are all causal attention",
        )
