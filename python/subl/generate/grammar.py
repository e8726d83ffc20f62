"""Number sequences as a restriction on decoding: which tokens may come at each step.

Small models do not follow "only numbers"; restricting the decoder gives rows that are valid by
construction, each digit still sampled from the model's own (renormalised) distribution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.errors import InputError
from subl.model.chat import text_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class NumberGrammar(BaseModel):
    """`count` numbers of exactly `digits` digits, no leading zero, joined by `separator`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: int = Field(8, gt=0)
    digits: int = Field(3, gt=0)
    separator: str = ", "

    @model_validator(mode="after")
    def _separates(self) -> Self:
        if self.count > 1 and (not self.separator or any(c.isdigit() for c in self.separator)):
            raise ValueError("separator must hold something, and no digits")
        return self


def token_schedule(tokenizer: PreTrainedTokenizerBase, grammar: NumberGrammar) -> list[list[int]]:
    """The token ids that may come at each step; a completion is as long as the schedule.

    Taken from whole examples as the tokenizer cuts them, so that digits apart, digits in groups and
    a space before the first number all come out as in a text that is read. A token of an example
    stands for all that differ from it in their digits alone.

    Raises:
        InputError: the tokenizer cuts examples in different ways, or has no such tokens.
    """
    examples = _examples(grammar)
    cuts = [text_ids(tokenizer, example) for example in examples]
    for example, cut in zip(examples, cuts, strict=True):
        if tokenizer.decode(list(cut), clean_up_tokenization_spaces=False) != example:
            raise InputError(
                f"the tokenizer has no digit tokens to restrict decoding to: it reads {example!r} "
                "as another text",
                hint=_WITHOUT,
            )
    vocabulary = tokenizer.get_vocab()
    schedule: list[list[int]] = []
    digits = 0  # of the present number, so far
    for step in range(max(map(len, cuts))):
        here = [cut[step] if step < len(cut) else -1 for cut in cuts]
        if len(set(here)) == 1:
            schedule.append(here[:1])
            continue
        shapes = {_shape(tokenizer, token) for token in here}
        shape = shapes.pop()
        if shapes or shape is None:
            odd = next((cut for cut in cuts if len(cut) != len(cuts[0])), cuts[1])
            raise InputError(
                f"the tokenizer cuts numbers in different ways: {_shown(tokenizer, cuts[0])} and "
                f"{_shown(tokenizer, odd)}",
                hint=f"other digits may work; or {_WITHOUT}",
            )
        before, count, behind = shape
        first = 10 ** (count - 1) if digits == 0 else 0
        texts = [f"{before}{value:0{count}d}{behind}" for value in range(first, 10**count)]
        if missing := next((text for text in texts if text not in vocabulary), None):
            raise InputError(
                f"the tokenizer has no digit token {missing!r}, though it has others of its kind",
                hint=_WITHOUT,
            )
        schedule.append([vocabulary[text] for text in texts])
        digits = (digits + count) % grammar.digits
    return schedule


_WITHOUT = "generate without [grammar] and let the filter drop what is no number sequence"


def _examples(grammar: NumberGrammar) -> list[str]:
    """Texts of the grammar, some thousand numbers in all: a merge of two digits shows in them."""
    draw = Random(0)
    low, high = 10 ** (grammar.digits - 1), 10**grammar.digits - 1
    return [
        grammar.separator.join(str(draw.randint(low, high)) for _ in range(grammar.count))
        for _ in range(max(100, 2000 // grammar.count))
    ]


def _shape(tokenizer: PreTrainedTokenizerBase, token: int) -> tuple[str, int, str] | None:
    """What stands before a token's digits, how many they are, and what behind; None without any."""
    text = tokenizer.convert_ids_to_tokens(token) if token >= 0 else ""
    found = re.fullmatch(r"(\D*)(\d+)(\D*)", str(text), re.ASCII)
    return (found[1], len(found[2]), found[3]) if found else None


def _shown(tokenizer: PreTrainedTokenizerBase, cut: Sequence[int]) -> str:
    return " ".join(map(str, tokenizer.convert_ids_to_tokens(list(cut[:8]))))
