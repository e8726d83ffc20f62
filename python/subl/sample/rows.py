"""Rows that are being sampled: what they have said, what they draw next, and where they end.

Randomness is a function of (seed, row, step): each row owns a stream of uniform numbers, and a
token is chosen by inverting the cumulative distribution at the row's next number. Which rows share
a batch does not matter to it, nor which were done before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from subl.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from subl.sample.ends import Ends
    from subl.sample.guide import Guide

Watch = Callable[[int, int, "Tensor"], None]
"""Called with the place of a row among its like, a step and its logits, `[vocabulary]`."""

_BLOCK = 256


def uniforms(seed: int, row: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`[count]` numbers in [0, 1) that belong to this row under this seed."""
    # Of a list with a number beyond 2**63 numpy would make floats, and one key of many.
    key = np.array([seed, row], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def choose(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """The token of each row at which the softmax's running sum passes the row's number: `[rows]`.

    Probabilities are float32, as logits are at best, and summed in float64: first by blocks, then
    within the one block that the number falls into (64 rows of 49,152 tokens: a quarter of the time
    that running sums over all of them take).

    Args:
        logits: `[rows, tokens]`.
        uniform: `[rows]` float64 in [0, 1).
    """
    rows, tokens = logits.shape
    p = logits.new_zeros((rows, -(-tokens // _BLOCK) * _BLOCK), dtype=torch.float32)
    # The largest becomes 0 first: a low temperature would make infinities of the others.
    torch.sub(logits.float(), logits.amax(-1, keepdim=True).float(), out=p[:, :tokens])
    p[:, :tokens].div_(temperature).exp_()
    blocks = p.view(rows, -1, _BLOCK)
    sums = blocks.sum(-1).double().cumsum(-1)
    if not bool(sums[:, -1].isfinite().all()):
        raise InputError(
            "the model's logits are no numbers: it cannot be sampled from",
            hint="its weights may be damaged; does another program get text out of it?",
        )
    block, rest = _passed(sums, uniform * sums[:, -1])
    within, _ = _passed(blocks[torch.arange(rows), block].double().cumsum(-1), rest)
    return block * _BLOCK + within


def _passed(sums: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Where running sums pass a target, and what of it is left there: `[rows]` each."""
    # A target that rounds up to the whole is the last place's that has a part in it.
    last = (sums < sums[:, -1:]).sum(-1)
    place = torch.minimum((sums <= target[:, None]).sum(-1), last)
    before = torch.where(place > 0, sums.gather(1, (place - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    return place, target - before


class Rows:
    """Rows of one call, by their places in it, as they are drawn token by token.

    Args:
        numbers: the rows' numbers in the data set, which fix their randomness.
        guide: which tokens may come, or None for the whole vocabulary; needs `ends`.
        ends: what rows end at; nothing, if None.
        watch: sees all logits.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
        temperature: float,
        max_new_tokens: int,
        guide: Guide | None = None,
        ends: Ends | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.said: list[list[int]] = [[] for _ in numbers]
        """What each row has drawn, what ended it among it."""
        self.done = [False for _ in numbers]
        self.most = max_new_tokens
        self._uniform = np.stack([uniforms(seed, number, max_new_tokens) for number in numbers])
        self._temperature = temperature
        self._guided = None if guide is None or ends is None else guide.rows(ends)
        self._stops = frozenset() if ends is None else ends.turn | ends.control
        self._texts = ends.turn_texts if ends is not None and ends.spelled else ()
        self._tokenizer = tokenizer
        self._watch = watch

    def allowed(self, places: Sequence[int], vocabulary: int) -> tuple[Tensor, Tensor] | None:
        """Token ids that may come next in one of these rows, and in which: `[rows, ids]`; None
        where all of them may."""
        if self._guided is None:
            return None
        ids, rows = self._guided.allowed(places, vocabulary)
        return torch.from_numpy(ids), torch.from_numpy(rows)

    def draw(
        self, places: Sequence[int], logits: Tensor, allowed: tuple[Tensor, Tensor] | None
    ) -> None:
        """The next token of each of these rows.

        Args:
            logits: of the tokens that are `allowed`, `[rows, ids]`; or of all.
        """
        steps = [len(self.said[place]) for place in places]
        if self._watch is not None:
            for place, step, each in zip(places, steps, logits, strict=True):
                self._watch(place, step, each)
        ids = None
        if allowed is not None:
            ids, rows = (each.to(logits.device) for each in allowed)
            logits = logits.masked_fill(~rows, -torch.inf)
        uniform = torch.from_numpy(self._uniform[list(places), steps]).to(logits.device)
        chosen = choose(logits, uniform, self._temperature)
        for place, token in zip(
            places, (chosen if ids is None else ids[chosen]).tolist(), strict=True
        ):
            self.said[place].append(token)
            self.done[place] = self._ended(place, token)

    def _ended(self, place: int, token: int) -> bool:
        complete = self._guided is not None and self._guided.read(place, token)
        full = len(self.said[place]) == self.most
        return complete or token in self._stops or full or self._spelled(place)

    def _spelled(self, place: int) -> bool:
        """Whether a row's text has the end of turn in it, where that is no token."""
        if not self._texts:
            return False
        # Each token is at least a byte of the text, and a character at most four bytes.
        tail = self.said[place][-4 * max(map(len, self._texts)) - 4 :]
        text = self._tokenizer.decode(tail, clean_up_tokenization_spaces=False)
        return any(each in text for each in self._texts)
