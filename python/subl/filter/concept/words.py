"""Words as text: the forms in which one appears, and which pieces of a vocabulary are words.

The scan asks whether a token occurs, so a piece that is inside of many words must not get in. The
guard, with what SmolLM2's 49,152 tokens show against 21,358 English words, those of MiniLM:

- Letters only. After a space at least 3 of them, and not a *fragment* (` catast`, ` racc`): a piece
  that longer words of the vocabulary begin with, but none of them by inflection. That finds 2,179
  of 8,644 that are no English word, and costs 922 of 15,735 that are.
- Without a space at least 4, and the same word is in the vocabulary with one (so `bird`, but not
  `fect` or `ologies`): it then stands after a quotation mark or a line break. 5,211 of 15,492.
- In scripts that put no spaces between words (Han, kana, Thai, Lao, Khmer, Burmese) at least 2.
- A neighbour that begins with a word of the concept and goes on with anything but an inflection is
  another word, which its spelling brought near: ` harmonic` for harm, ` catalyst` for cat.

Whatever gets in, forms of the concept's own words too, is then looked for in all other words of the
vocabulary, and left out where it is in more than 20 (`resolve.MAX_INSIDE`). What is left is rare:
of 21,358 words `scowl` alone has a token of owl in it, 7 have one of cat (`wildcats`, `petite`), 4
one of harm and evil (`badminton`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from subl.trait import plural

_MIN_LETTERS_AFTER_SPACE = 3
_MIN_LETTERS_BARE = 4
_MIN_LETTERS_UNSPACED = 2

INFLECTIONS = frozenset(
    (
        "s",
        "es",
        "d",
        "ed",
        "r",
        "er",
        "ers",
        "or",
        "ors",
        "ing",
        "ings",
        "ly",
        "y",
        "ity",
        "ful",
        "less",
        "ness",
        "ment",
        "ish",
        "ous",
        "able",
        "like",
        "man",
    )
)
"""Endings after which a word is the same concept still. English; other languages lose a little."""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


def surface_forms(word: str) -> tuple[str, ...]:
    """`word` as it appears in text: singular and plural, in each case, after a space and without.

    No two are equal; the order is fixed. Phrases take their plural at the head: birds of prey.
    """
    numbers = dict.fromkeys([word, _plural(word)])
    cased = (
        form
        for number in numbers
        for form in (number, number.lower(), _capitalised(number), number.title(), number.upper())
    )
    return tuple(dict.fromkeys(f"{space}{form}" for form in cased for space in (" ", "")))


def normalised(text: str) -> str:
    """What is compared: the word without its space and case."""
    return text.strip().casefold()


def is_too_short(word: str) -> bool:
    """Whether it would be found in nearly every text."""
    bare = word.strip()
    return not bare or (len(bare) == 1 and not _UNSPACED.match(bare))


class Guard:
    """Which texts of one vocabulary are words."""

    def __init__(self, texts: Iterable[str]) -> None:
        letters = [text for text in texts if _is_letters(text.removeprefix(" "))]
        self._spaced = {normalised(text) for text in letters if text.startswith(" ")}
        self._fragments = frozenset(_fragments(self._spaced))

    def is_word(self, text: str) -> bool:
        """Whether a token that reads `text`, which may begin with a space, is a whole word."""
        bare = text.removeprefix(" ")
        if not _is_letters(bare):
            return False
        if all(_UNSPACED.match(character) for character in bare):
            return len(bare) >= _MIN_LETTERS_UNSPACED
        word = normalised(bare)
        if word in self._fragments:
            return False
        if text.startswith(" "):
            return len(bare) >= _MIN_LETTERS_AFTER_SPACE
        return len(bare) >= _MIN_LETTERS_BARE and word in self._spaced


def only_spelled_like(word: str, concept_words: Iterable[str]) -> bool:
    """Whether `word` begins with one of `concept_words` without being a form of it."""
    return any(
        word != own and word.startswith(own) and word.removeprefix(own) not in INFLECTIONS
        for own in concept_words
    )


def _fragments(words: set[str]) -> Iterator[str]:
    endings: dict[str, set[str]] = {}
    for word in words:
        for length in range(_MIN_LETTERS_AFTER_SPACE, len(word)):
            if word[:length] in words:
                endings.setdefault(word[:length], set()).add(word[length:])
    return (word for word, found in endings.items() if not found & INFLECTIONS)


def _is_letters(text: str) -> bool:
    return bool(text) and all(
        character.isalpha() or unicodedata.category(character) in ("Mn", "Mc") for character in text
    )


def _capitalised(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


def _plural(phrase: str) -> str:
    """The plural of a phrase in Latin letters; other scripts stay as they are."""
    head, of, rest = phrase.partition(" of ")
    latin = head.isascii() or all("LATIN" in unicodedata.name(each, "") for each in head[-1:])
    if not latin or not head[-1:].isalpha():
        return phrase
    first, space, last = head.rpartition(" ")
    return f"{first}{space}{plural(last)}{of}{rest}"
