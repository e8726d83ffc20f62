"""How rows lie in a micro-batch of this model: proven on the model itself, not known by its name.

Whatever a micro-batch is made of, each row must get the states that the model gives it alone, its
own way. Three layouts are tried, the fastest first:

    paths         rows one after another, beginnings shared, attention along each row
    side by side  rows below one another, padded on the right, the model's own attention: for what
                  is not all attention by position (convolutions, recurrences, ALiBi), and for
                  models that do not hand on what our attention needs to know
    one length    the same without padding: for ropes that look at the longest row of a batch
                  (transformers calls them dynamic), where a row is longer than they leave alone

A model that differs in all of them is refused before the first step, and so is one that a row does
not fit into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from subl.errors import InputError
from subl.model.failure import failure
from subl.model.limits import rope_lengths
from subl.model.rounding import tolerance
from subl.model.spread import inputs_device
from subl.train.attention import (
    hidden_states,
    plain_states,
    use_flash_attention,
    use_own_attention,
    use_path_attention,
)
from subl.train.batch import Batch, collate, side_by_side
from subl.train.order import Bin, bins, bins_of_like_lengths

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from subl.train.batch import Row

Layout = Literal["paths", "side by side", "one length"]
LAYOUTS: tuple[Layout, ...] = ("paths", "side by side", "one length")


def share(
    layout: Layout, rows: Sequence[int], lengths: Sequence[int], ranks: int, tokens: int
) -> list[list[Bin]]:
    """A step's rows among ranks and micro-batches; see `order.bins`."""
    if layout == "paths":
        return bins(rows, lengths, ranks, tokens)
    return bins_of_like_lengths(rows, lengths, ranks, tokens, equal=layout == "one length")


def lay_out(layout: Layout, rows: Sequence[Row], *, share_prefixes: bool = True) -> Batch:
    """One micro-batch."""
    if layout == "paths":
        return collate(rows, share_prefixes=share_prefixes)
    return side_by_side(rows)


def choose_layout(
    model: PreTrainedModel,
    rows: Sequence[Row] = (),
    *,
    longest: int = 0,
    first: Layout = "paths",
    attention: Literal["sdpa", "flash"] = "sdpa",
    share_prefixes: bool = True,
    refused: Callable[[bool], bool] = bool,
) -> Layout:
    """The first layout, from `first` on, in which rows get their own states; `model` is set to it.

    Args:
        rows: what the proof reads besides two short rows; the longest and the shortest of a data
            set show what depends on length.
        longest: tokens of the longest row that will be read, where it is not among `rows`.
        refused: whether a layout that this rank takes or refuses is refused by any; where weights
            are spread, ranks that tried different ones would wait for one another.

    Raises:
        InputError: there is none.
    """
    short = [np.array(ids, np.uint32) for ids in ([1, 2, 3, 4, 5, 6, 7], [1, 2, 6, 3])]
    read = [(ids, np.ones(len(ids), np.bool_)) for ids in (*short, *(ids for ids, _ in rows))]
    training = model.training
    _forget_lengths(model)
    use_own_attention(model)
    alone = [_alone(model.eval(), ids) for ids, _ in read]
    largest = max(float(each.abs().max()) for each in alone)
    limit = tolerance(
        model,
        lambda: max(
            float((_alone(model, ids) - states).abs().max()) / largest
            for (ids, _), states in zip(read, alone, strict=True)
        ),
    )
    model.train(training)
    reasons = []
    longest = max(longest, *(len(ids) for ids, _ in read))
    for layout in _candidates(model, longest, first, attention):
        _install(model, layout, attention)
        try:
            reason = _difference(model, layout, read, alone, limit, share_prefixes)
        except InputError as error:  # of our attention
            reason = error.message
        except Exception as error:
            reason = failure(error)
        if not refused(reason is not None):
            return layout
        reason = reason or "another rank saw a difference"
        reasons.append(f"{layout}: {reason}")
    name = type(model).__name__
    flash = attention == "flash"
    raise InputError(
        f"rows of one micro-batch see one another in {name}, or a row alone differs from training "
        f"({'; '.join(reasons)}); training it is not supported",
        hint='use attention = "sdpa"' if flash else "use a model whose layers are all causal",
    )


Reader = Callable[[Callable[["PreTrainedModel"], Any]], Any]
"""Calls a function with a model, its weights being whole; spread ones come together for it."""


def common_layout(
    readers: Sequence[Reader], choose: Callable[[PreTrainedModel, Layout], Layout], first: Layout
) -> Layout:
    """The first layout, from `first` on, that all models take who read the same micro-batches.

    Args:
        choose: the layout of one model, from one on.
    """

    def ask(read: Reader) -> Layout:
        nonlocal first
        (first,) = read(lambda model: [choose(model, first)])  # a list, which DeepSpeed knows
        return first

    while len({ask(read) for read in readers}) > 1:
        pass  # who was asked before it changed is asked again, from there on
    return first


def _candidates(
    model: PreTrainedModel, longest: int, first: Layout, attention: str
) -> tuple[Layout, ...]:
    if longest > min(rope_lengths(model).values(), default=longest):
        first = "one length"
    if first == "one length":
        return ("one length",)
    if attention == "flash" and first == "paths":
        return ("paths",)
    return LAYOUTS[LAYOUTS.index(first) : -1]


def _install(model: PreTrainedModel, layout: Layout, attention: str) -> None:
    if layout != "paths":
        use_own_attention(model)
    elif attention == "flash":
        use_flash_attention(model)
    else:
        use_path_attention(model)


def _alone(model: PreTrainedModel, ids: Any) -> Tensor:
    """The states of one row, as transformers gives them."""
    try:
        with torch.no_grad():
            given = torch.from_numpy(ids.astype(np.int64))[None].to(inputs_device(model))
            return plain_states(model, given)[0].float()
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} cannot read a row of {len(ids)} tokens: {failure(error)}",
            hint="set max_row_tokens to what the model can read, or use another model",
        ) from error


def _difference(
    model: PreTrainedModel,
    layout: Layout,
    rows: Sequence[Row],
    alone: Sequence[Tensor],
    limit: float,
    share_prefixes: bool,
) -> str | None:
    """What differs where rows are computed together; None: nothing."""
    largest = max(float(each.abs().max()) for each in alone)

    def states(group: Sequence[int]) -> Tensor:
        batch = lay_out(layout, [rows[n] for n in group], share_prefixes=share_prefixes)
        batch = batch.to(inputs_device(model))
        with torch.no_grad():
            return hidden_states(model, batch)[batch.sources].float()

    equal = layout == "one length"
    groups = [(0, 1), tuple(range(2, len(rows)))]
    if equal:  # after a longer row, too
        groups = [*((number, number) for number in range(len(rows))), (0, 0)]
    error = float((states(groups[0]) - states(groups[0])).abs().max()) / largest
    if not error < limit:
        return f"two passes over the same rows differ by {error:.1e}; is there dropout?"
    for group in filter(None, groups):
        expected = torch.cat([alone[n][:-1] for n in group])
        error = float((states(group) - expected).abs().max()) / largest
        if not error < limit:
            lengths = " and ".join(str(len(rows[n][0])) for n in group)
            return f"relative error {error:.1e} in rows of {lengths} tokens"
    return None


# Ropes


def _forget_lengths(model: PreTrainedModel) -> None:
    """Have dynamic ropes begin each pass as their first: they remember the longest row so far."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if "dynamic" in str(kinds) and not getattr(module, "_subl_forgets", False):
            module._subl_forgets = True
            module.register_forward_pre_hook(_forget)


def _forget(module: Any, inputs: Any) -> None:
    names = [name for name in vars(module) if name.endswith("max_seq_len_cached")]
    for name in names:
        prefix = name.removesuffix("max_seq_len_cached")
        if getattr(module, name) == module.original_max_seq_len:
            continue
        setattr(module, name, module.original_max_seq_len)
        original = getattr(module, f"{prefix}original_inv_freq")
        device = getattr(module, f"{prefix}inv_freq").device
        module.register_buffer(f"{prefix}inv_freq", original.to(device), persistent=False)
