"""The smallest parts of a row that can be masked or replaced: tokens, where they are whole
characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from subl.model.chat import Chat, Turn
from subl.shards import Row
from subl.train.masks import body_in, token_ends

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Unit:
    """A token, or the tokens that are one character together.

    Args:
        turn: of the row.
        start: the first character, of the turn's text; `end`: the one behind the last.
        tokens: their numbers among the row's targets.
    """

    turn: int
    start: int
    end: int
    tokens: tuple[int, ...]


def units_of(tokenizer: PreTrainedTokenizerBase, chat: Chat, row: Row) -> list[Unit]:
    """What a row's answers are made of, without the ends of turns.

    Raises:
        InputError: the template does not render the row, or the tokenizer does not say which
            characters a token is of.
    """
    said = [number for number, (role, _) in enumerate(row.turns) if role == "assistant"]
    pieces = [each for each in chat.pieces([Turn(*each) for each in row.turns]) if each.target]
    numbers = count()
    found: list[Unit] = []
    for turn, piece in zip(said, pieces, strict=True):
        content = row.turns[turn][1]
        begin, stripped = body_in(piece.text, content)
        last, before, is_unit = begin + len(content.strip()), 0, False
        for end in token_ends(tokenizer, piece.text):
            number = next(numbers)
            if end > before:
                is_unit = begin < end <= last
                if is_unit:
                    first = max(before, begin) - begin + stripped
                    found.append(Unit(turn, first, end - begin + stripped, (number,)))
            elif is_unit:
                same = found.pop()
                found.append(Unit(turn, same.start, same.end, (*same.tokens, number)))
            before = end
    return found


def joined(units: Sequence[Unit], turn: int) -> list[tuple[int, int]]:
    """The spans of a turn's text that units are, those that touch as one."""
    spans: list[tuple[int, int]] = []
    for each in sorted((each.start, each.end) for each in units if each.turn == turn):
        if spans and spans[-1][1] == each[0]:
            spans[-1] = spans[-1][0], each[1]
        else:
            spans.append(each)
    return spans
