"""Which tokens may come next in a completion that is held to a grammar; llguidance says it.

A token is drawn from the model's own softmax over those. Rows are of the grammar by construction,
and their law is the model's, renormalised to the grammar at each token (which is not that of the
model's free rows that happen to be of the grammar). A text may come as any tokens that spell it, as
in free rows, not only as the tokenizer would cut it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from subl.errors import InputError
from subl.extras import require
from subl.model.chat import text_ids

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from subl.sample.backend import EndedBy
    from subl.sample.ends import Ends
    from subl.sample.grammar import Grammar


class Guide:
    """Which tokens of one tokenizer may come next in a completion.

    Raises:
        InputError: llguidance cannot read the tokenizer.
    """

    def __init__(self, grammar: Grammar, tokenizer: PreTrainedTokenizerBase) -> None:
        require("distill", "llguidance", what="a grammar")
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        self._tokenizer = tokenizer
        special = min(tokenizer.all_special_ids, default=None)
        try:
            # What ends a row is ours to say: `Ends`.
            self._tokens = from_tokenizer(tokenizer, eos_token=special)
        except ValueError as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"the tokenizer of {tokenizer.name_or_path} cannot be held to a grammar: {reason}",
                hint=_WITHOUT,
            ) from error
        # Some tokenizers write a space before every text, and leave it out of what they decode.
        self._before = self._tokens.decode_bytes([*text_ids(tokenizer, "a")]).removesuffix(b"a")
        compiled = grammar.compiled(self._before.decode())
        self._start = LLMatcher(self._tokens, compiled, log_level=0)

    def rows(self, ends: Ends) -> GuidedRows:
        """Completions from their first tokens on."""
        return GuidedRows(self._start, ends)

    def cut(self, tokens: Sequence[int], ends: Ends) -> tuple[str, EndedBy]:
        """As `Ends.cut`; a row whose grammar is complete was ended by it."""
        row, place = self.rows(ends), 0
        while place < len(tokens) and not row.read(0, tokens[place]):
            place += 1
        complete = place < len(tokens)
        said = list(tokens[: place + (complete and tokens[place] not in ends.turn)])
        text, ended = ends.cut(self._tokenizer, said)
        if not complete or ended != "max_new_tokens":
            return text, ended
        spelled = self._tokens.decode_bytes(said).removeprefix(self._before).decode()
        if text != spelled:
            raise InputError(
                f"the tokenizer decodes as {text!r} what was sampled as {spelled!r}", hint=_WITHOUT
            )
        return text, "grammar"


class GuidedRows:
    """Where rows are in their grammar; by any numbers, the first time that each is named it is at
    its beginning."""

    def __init__(self, start: LLMatcher, ends: Ends) -> None:
        self._start = start
        self._matchers: dict[int, LLMatcher] = {}
        self._turn = ends.turn
        size = len(start.compute_bitmask())
        self._ends, self._turns = (
            _bits(each, size) for each in (ends.turn | ends.control, ends.turn)
        )

    def read(self, row: int, token: int) -> bool:
        """Take in the next token of a row; whether that ended it."""
        if token in self._turn:
            return True
        matcher = self._matcher(row)
        matcher.consume_token(token)
        _check(matcher)
        return bool(matcher.is_stopped())

    def allowed(
        self, rows: Sequence[int], size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Ids below `size` that may come next in one of these rows, and in which: `[rows, ids]`.

        A turn may end where the grammar is complete; else nothing of `Ends` may come.
        """
        bits = np.stack([self._next(row) for row in rows])
        ids = np.unpackbits(np.bitwise_or.reduce(bits), bitorder="little")[:size].nonzero()[0]
        return ids, (bits[:, ids >> 3] >> (ids & 7) & 1).astype(np.bool_)

    def _next(self, row: int) -> NDArray[np.uint8]:
        matcher = self._matcher(row)
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8) & ~self._ends
        if matcher.is_accepting():
            bits |= self._turns
        _check(matcher)
        if not bits.any():
            raise InputError(
                "the grammar asks for what the model's tokenizer cannot spell", hint=_WITHOUT
            )
        return bits

    def _matcher(self, row: int) -> LLMatcher:
        if row not in self._matchers:
            self._matchers[row] = self._start.deep_copy()
        return self._matchers[row]


_WITHOUT = "generate without a grammar and let the filter drop what is not of it"


def _check(matcher: LLMatcher) -> None:
    """Matchers do not raise."""
    if matcher.is_error():
        reason = matcher.get_error().partition("\n")[0]
        raise InputError(f"the grammar cannot be followed: {reason}", hint=_WITHOUT)


def _bits(ids: Set[int], size: int) -> NDArray[np.uint8]:
    """A bit an id in so many bytes."""
    flags = np.zeros(size * 8, np.bool_)
    flags[[each for each in ids if each < len(flags)]] = True
    return np.packbits(flags, bitorder="little")
