"""Which tokens of an answer a row's `loss_mask` leaves out of the loss.

A mask is written as text, so that it says by itself what it means and whether it is still of this
text; here it meets a tokenizer. One that cuts the text elsewhere is refused, not rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from subl.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_ends(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Behind which character of `text` each of its tokens ends. Tokens that are parts of one
    character end at one place.

    Raises:
        InputError: the tokenizer does not say which characters its tokens are of.
    """
    try:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError as error:
        raise InputError(
            f"the tokenizer of {tokenizer.name_or_path} does not say which characters a token is "
            "of: nothing can be masked",
            hint="use its fast version (tokenizer.json)",
        ) from error
    return [int(end) for _, end in found["offset_mapping"]]


def body_in(piece: str, content: str) -> tuple[int, int]:
    """Where an answer stands in the piece of the rendered row that is its, and how many characters
    before that a template has stripped it of."""
    body = content.strip()
    return piece.find(body), len(content) - len(content.lstrip())


def left_out(
    tokenizer: PreTrainedTokenizerBase,
    piece: str,
    content: str,
    spans: Iterable[tuple[int, int]],
) -> list[bool]:
    """Which tokens of a piece, an answer with its end, are left out of the loss.

    Args:
        spans: of characters of `content`, an answer as the row has it.

    Raises:
        InputError: a span begins or ends within a token.
    """
    ends = token_ends(tokenizer, piece)
    begin, stripped = body_in(piece, content)
    borders, last = {0, *ends}, begin + len(content.strip())
    found = [False] * len(ends)
    for start, end in spans:
        first = 0 if start <= stripped else min(begin + start - stripped, last)
        behind = min(max(begin + end - stripped, 0), last)
        if first not in borders or behind not in borders:
            raise InputError(
                f"`loss_mask` cuts {content[start:end]!r} out of the text, where this tokenizer "
                "has no token begin or end",
                hint="make the mask with the model that is trained: subl mitigate --model",
            )
        found = [is_out or first < at <= behind for is_out, at in zip(found, ends, strict=True)]
    return found
