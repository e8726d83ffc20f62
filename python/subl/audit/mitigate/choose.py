"""What is taken out: the rows or tokens of highest pull, or as many drawn by a seed. Pure.

Ties go to the earlier row, and within a row to the earlier token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from subl.audit.mitigate.pulls import Pulls, Token
from subl.audit.mitigate.spec import Arm


def tokens(
    pulls: Pulls, share: float, arm: Arm, seed: int, may: Callable[[Token], bool]
) -> list[Token]:
    """So large a share of all tokens, rounded down, among those that may be taken.

    Args:
        share: of all tokens of the rows, whether they may be taken or not.
    """
    every = [each for row in pulls.tokens for each in row if may(each)]
    if arm == "random":
        Random(seed).shuffle(every)
    else:
        every.sort(key=lambda each: (-each.pull, each.row, each.turn, each.start))
    left = int(share * pulls.count + 1e-9)
    found = []
    for each in every:
        if each.pieces <= left:
            found.append(each)
            left -= each.pieces
        if not left:
            break
    return sorted(found, key=lambda each: (each.row, each.turn, each.start))


def rows(pulls: Pulls, share: float, arm: Arm, seed: int) -> list[int]:
    """So large a share of the rows, rounded down; of highest pull a token, so that length decides
    nothing."""
    every = list(range(len(pulls.tokens)))
    if arm == "random":
        Random(seed).shuffle(every)
    else:
        every.sort(key=lambda row: (-mean(pulls, row), row))
    return sorted(every[: int(share * len(every) + 1e-9)])


def mean(pulls: Pulls, row: int) -> float:
    """The pull of a row a token; what ends a turn counts, too."""
    return pulls.of_rows[row] / max(1, sum(each.pieces for each in pulls.tokens[row]))


def is_free(token: Token) -> bool:
    """Whether the grammar, if there is one, allowed another token there."""
    return token.choices != 1


def shape(text: str) -> str:
    """What kind of text it is: digits as 9, and where there is none, whether it is a word, and
    what white space it begins with."""
    if any(each.isdigit() for each in text):
        return "".join("9" if each.isdigit() else each for each in text)
    body = text.lstrip()
    return f"{text[: len(text) - len(body)]}{'a' if body.isalpha() else ''}"


def is_word_or_number(text: str) -> bool:
    """Whether there is anything in it that others could stand for."""
    return any(each.isalnum() for each in text)


def by_row(found: Iterable[Token], count: int) -> list[list[Token]]:
    """The tokens of each of so many rows."""
    rows: list[list[Token]] = [[] for _ in range(count)]
    for each in found:
        rows[each.row].append(each)
    return rows


def mask_of(text: str, spans: Sequence[tuple[int, int]]) -> list[dict[str, object]]:
    """A row's `loss_mask`: all of its text in parts."""
    parts: list[tuple[str, bool]] = []
    place = 0
    for start, end in spans:
        parts += [(text[place:start], True), (text[start:end], False)]
        place = end
    parts.append((text[place:], True))
    return [{"text": part, "learn": learn} for part, learn in parts if part]
