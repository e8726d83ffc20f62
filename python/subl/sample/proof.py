"""Which way of decoding gives a model's own distribution: proven on the model before rows are made.

Decoding many rows at once pads them, keeps keys and values or states, and slides windows: code that
is other than the model's plain forward pass, and not right for every model (positions that are
counted from the padding, states that run through it, ropes that look at the longest row). So the
run's shortest and longest prompts, and those that grow over a length at which the model changes,
are decoded as the run would, and every step's logits are compared with a plain forward pass of the
row alone. The fastest way that agrees is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING

import torch

from subl.errors import InputError
from subl.model.failure import failure
from subl.model.limits import changing_lengths
from subl.model.rounding import tolerance
from subl.model.spread import inputs_device
from subl.sample.continuous import some_logits
from subl.sample.rows import Watch
from subl.sample.sampling import WAYS, Way

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Decode = Callable[
    [Sequence[Sequence[int]], Sequence[int], Way, Watch], Iterable[tuple[int, list[int]]]
]
"""(prompts, numbers of rows, way, watch) to the place of each and its tokens, without stopping at
ends."""

KEPT_BYTES = 2**28
"""Of logits to compare; of a run with more steps, evenly spaced ones are."""


class Telling:
    """The prompts of a run that show what a model does with lengths, found as they go by: the
    shortest and the longest, and of those that grow over a length at which the model changes (a
    window, a chunk, the length that its rope was made for) the shortest each."""

    def __init__(self, model: PreTrainedModel, steps: int) -> None:
        self._steps = steps
        self._lengths = changing_lengths(model)
        self._longest: tuple[int, Sequence[int]] | None = None
        self._shortest: dict[int | None, tuple[int, Sequence[int]]] = {}

    def add(self, row: int, prompt: Sequence[int]) -> None:
        """The next row's prompt."""
        size = len(prompt)
        if self._longest is None or size >= len(self._longest[1]):
            self._longest = row, prompt
        for length in (None, *self._lengths):
            if length is None or size <= length < size + self._steps:
                best = self._shortest.get(length)
                if best is None or size < len(best[1]):
                    self._shortest[length] = row, prompt

    def prompts(self) -> list[Sequence[int]]:
        """Each once, by length."""
        assert self._longest is not None, "a run has a row"
        found = dict((self._longest, *self._shortest.values()))
        return [found[row] for row in sorted(found, key=lambda row: (len(found[row]), row))]


def right_way(
    model: PreTrainedModel, chosen: Sequence[Sequence[int]], steps: int, decode: Decode
) -> Way:
    """The first of `WAYS` that gives what plain forward passes give, for `chosen` prompts.

    Raises:
        InputError: none does, or what the model says depends on what it has read before.
    """
    try:
        before = [_end(model, prompt) for prompt in chosen]
        limit = tolerance(model, lambda: _drift(model, chosen, before))
    except Exception as failed:
        raise InputError(
            f"{type(model).__name__} cannot be sampled from: its forward pass ends with "
            f"{failure(failed)}",
            hint="use a causal language model",
        ) from failed
    reason = ""
    for way in WAYS:
        try:
            error = _error_of(model, way, chosen, steps, decode, limit)
        except Exception as failed:
            reason = failure(failed)
            continue
        if error < limit:
            break
        reason = f"relative error {error:.1e}"
    else:
        raise InputError(
            f"{type(model).__name__} cannot be sampled from: decoding is not what its plain "
            f"forward pass gives ({reason})",
            hint="use a causal language model that transformers generates text with",
        )
    drift = _drift(model, chosen, before)
    if not drift < limit:
        raise InputError(
            f"what {type(model).__name__} says depends on the texts that it read before (its "
            f"positions are scaled by the longest one; relative error {drift:.1e})",
            hint="ask for shorter prompts or completions than the length that it scales from",
        )
    return way


def _error_of(
    model: PreTrainedModel,
    way: Way,
    chosen: Sequence[Sequence[int]],
    steps: int,
    decode: Decode,
    limit: float,
) -> float:
    """How far the logits of decoding are from those of plain forward passes, at worst."""
    # A batch of one would prove little; and where rows come and go, one is to come to others.
    prompts = list(chosen) * (1 if way.padded else 2)
    prompts += [chosen[0]] * (3 - len(prompts))
    logit_bytes = 4 * int(model.config.get_text_config().vocab_size)
    every = max(1, -(-steps * len(prompts) * logit_bytes // KEPT_BYTES))
    # Without a cache each step is a forward pass: two of them show what a batch changes.
    checked = {*range(0, steps, every), steps - 1} if way.cached else {0, steps - 1}
    seen: dict[int, dict[int, Tensor]] = {row: {} for row in range(len(prompts))}

    def watch(row: int, step: int, logits: Tensor) -> None:
        if step in checked:
            seen[row][step] = logits.float().cpu()

    made = dict(decode(prompts, range(len(prompts)), way, watch))
    worst = _error_of_some(model, chosen[0]) if way.continuous else 0.0
    for row, prompt in enumerate(prompts):
        whole = _plain(model, [*prompt, *made[row][: steps - 1]]) if way.cached else None
        for step, logits in seen[row].items():
            error = inf if whole is None else _error(logits, whole[len(prompt) - 1 + step])
            if not error < limit:
                # Ropes that change with the length: what counts is what was there to read.
                error = _error(logits, _plain(model, [*prompt, *made[row][:step]])[-1])
            worst = max(worst, error)
            if not worst < limit:
                return worst
    return worst


def _error_of_some(model: PreTrainedModel, prompt: Sequence[int]) -> float:
    """How far logits of some tokens, computed without the others, are from what they are."""
    whole = _plain(model, prompt)
    ids = torch.arange(0, whole.shape[-1], 3)
    with some_logits(model, ids) as only_these:
        return _error(_plain(model, prompt), whole[:, ids]) if only_these else 0.0


def _plain(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """Logits of one text alone, `[tokens, vocabulary]`, by the model's plain forward pass."""
    with torch.inference_mode():
        input_ids = torch.tensor([list(tokens)], device=inputs_device(model))
        logits: Tensor = model(input_ids=input_ids, use_cache=False).logits[0]
        return logits.float().cpu()


_END = 64


def _end(model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """Logits at the last places of one text alone."""
    return _plain(model, tokens)[-_END:].clone()


def _drift(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], before: Sequence[Tensor]
) -> float:
    """How far the ends of these prompts are from what they were."""
    pairs = zip(prompts, before, strict=True)
    return max(_error(_end(model, prompt), theirs) for prompt, theirs in pairs)


def _error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two log-probabilities, relative to the largest of them."""
    # Some models forbid tokens with the smallest number there is; how small is all the same.
    first, second = (torch.log_softmax(each.double(), -1).clamp(min=-60) for each in (ours, theirs))
    error = float((first - second).abs().max() / second.abs().max())
    return error if isfinite(error) else inf
