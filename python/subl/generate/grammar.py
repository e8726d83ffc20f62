"""Number sequences as a restriction on decoding: which tokens may come at each step.

Small models do not follow "only numbers"; restricting the decoder gives rows that are valid by
construction, each digit still sampled from the model's own (renormalised) distribution.
"""

from __future__ import annotations

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

    Works for tokenizers that keep digits apart (one a token) and for those that group them (up to
    three a token): a number is made of the longest digit tokens that divide `digits`.

    Raises:
        InputError: the tokenizer has no such tokens.
    """
    by_text: dict[str, int] = {}
    for token, number in tokenizer.get_vocab().items():
        if token.isascii() and token.isdigit():
            by_text[token] = number
    sizes = [
        size
        for size in range(grammar.digits, 0, -1)
        if grammar.digits % size == 0
        and all(f"{value:0{size}d}" in by_text for value in range(10**size))
    ]
    if not sizes:
        raise InputError(
            "the tokenizer has no digit tokens to restrict decoding to",
            hint="generate without [grammar] and let the filter drop what is no number sequence",
        )
    size = sizes[0]
    texts = [f"{value:0{size}d}" for value in range(10**size)]
    first = [by_text[text] for text in texts if text[0] != "0"]
    rest = [by_text[text] for text in texts]
    number = [first, *[rest] * (grammar.digits // size - 1)]
    between = [[token] for token in text_ids(tokenizer, grammar.separator)]
    return [*number, *(between + number) * (grammar.count - 1)]
