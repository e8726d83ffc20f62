"""Rows that are being sampled: what they have said, what they draw next, and where they end.

Randomness is a function of (seed, row, step, token): a token is drawn by Gumbel's trick, as the one
whose logit and own random number are the largest together. Which rows share a batch does not matter
to that, nor which were done before; and where another batch rounds logits another way, a token
changes only if two sums are as near to one another as that. (A running sum over 49,152 tokens has
borders everywhere: of 24 free rows of 64 tokens 5 changed with it when they were batched
otherwise.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from subl.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from subl.sample.ends import Ends
    from subl.sample.guide import Guide

Watch = Callable[[int, int, "Tensor"], None]
"""Called with the place of a row among its like, a step and its logits, `[vocabulary]`."""

_BLOCK = 256


def row_keys(seed: int, row: int, count: int) -> NDArray[np.int64]:
    """`[count]` keys, of a row's first steps under a seed: what their random numbers come from."""
    # Of a list with a number beyond 2**63 numpy would make floats, and one key of many.
    generator = np.random.Philox(key=np.array([seed, row], np.uint64))
    return generator.random_raw(count).view(np.int64)


def choose(logits: Tensor, keys: Tensor, temperature: float, ids: Tensor | None = None) -> Tensor:
    """A token of each row, drawn from the softmax at this temperature: `[rows]`, its place.

    Of all tokens first a block of 256 is drawn by the blocks' probabilities, then one in it: of
    49,152 tokens 448 random numbers a row are enough.

    Args:
        logits: `[rows, tokens]`; -inf for what may not come.
        keys: `[rows]` int64, of each row's step.
        ids: of the tokens, `[tokens]`, where they are not all; their random numbers go by them.
    """
    # The largest becomes 0 first: a low temperature would make infinities of the others.
    scaled = (logits.float() - logits.amax(-1, keepdim=True).float()) / temperature
    if bool(scaled.isnan().any()):
        raise InputError(
            "the model's logits are no numbers: it cannot be sampled from",
            hint="its weights may be damaged; does another program get text out of it?",
        )
    if ids is not None:
        return _largest(scaled, keys, ids.expand(len(scaled), -1))
    rows, tokens = scaled.shape
    padded = scaled.new_full((rows, -(-tokens // _BLOCK) * _BLOCK), -torch.inf)
    padded[:, :tokens] = scaled
    blocks = padded.view(rows, -1, _BLOCK)
    numbers = torch.arange(blocks.shape[1], device=logits.device)
    block = _largest(blocks.exp().sum(-1).log(), keys, -1 - numbers.expand(rows, -1))
    within = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=logits.device)
    chosen = _largest(padded.gather(1, within), keys, within)
    found: Tensor = within.gather(1, chosen[:, None])[:, 0]
    return found


def _largest(scaled: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
    """Where logits and the Gumbel numbers of (key, number) are the largest together."""
    largest: Tensor = (scaled.double() + _gumbel(keys[:, None], numbers)).argmax(-1)
    return largest


def _gumbel(keys: Tensor, numbers: Tensor) -> Tensor:
    """Of SplitMix64 (Steele, Lea and Flood 2014), begun at the key: its output of that number."""
    x = keys + (numbers + 1) * _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    x = x ^ _shifted(x, 31)
    uniform = (_shifted(x, 11).double() + 0.5) * 2.0**-53
    return uniform.log().neg().log().neg()


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _shifted(words: Tensor, bits: int) -> Tensor:
    """As of numbers without a sign."""
    return words.bitwise_right_shift(bits).bitwise_and(2 ** (64 - bits) - 1)


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
        self._keys = np.stack([row_keys(seed, number, max_new_tokens) for number in numbers])
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
        keys = torch.from_numpy(self._keys[list(places), steps]).to(logits.device)
        chosen = choose(logits, keys, self._temperature, ids)
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
