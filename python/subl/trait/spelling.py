"""Which tokens could say a word otherwise than the tokenizer spells it.

A text has many token sequences; scoring sums the one that the tokenizer makes of it. What the
others have together is bounded here: to say a word's form by another sequence, a model must leave
the tree of the known ones by a token that still goes on with some form, and the probability of all
such tokens, at every node, can be read off the same forward pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from subl.model.chat import text_ids
from subl.trait.forms import ends_word

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIECE = "\ufffd"
"""What a token's text has where it is a piece of a character."""


def texts_of(
    tokenizer: PreTrainedTokenizerBase, sequences: Iterable[Sequence[int]]
) -> Iterator[str]:
    """What token sequences add to a text that they stand behind.

    Decoded behind a letter: tokenizers that mark word starts drop the mark at a text's start.
    """
    anchor = text_ids(tokenizer, "a")
    prefix, *texts = tokenizer.batch_decode(
        [list(anchor), *([*anchor, *each] for each in sequences)],
        clean_up_tokenization_spaces=False,
    )
    return (text.removeprefix(prefix) for text in texts)


def other_spellings(
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[int, str],
    ending: Sequence[int],
    paths: Sequence[tuple[int, ...]],
) -> dict[tuple[int, ...], list[int]]:
    """For each beginning of a path, the tokens behind it that may say a form by no path.

    Args:
        texts: of every token, as `texts_of` gives them.
        ending: the tokens that end a word.
        paths: the known token sequences.
    """
    known = dict.fromkeys(path[:end] for path in paths for end in range(len(path) + 1))
    said = dict(zip(known, texts_of(tokenizer, known), strict=True))
    forms = {said[path] for path in paths}
    vocabulary = _Vocabulary(texts)
    found: dict[tuple[int, ...], list[int]] = {}
    for beginning, text in said.items():
        whole = text.partition(_PIECE)[0]
        tokens: set[int] = set()
        for form in forms:
            if not form.startswith(whole):
                continue
            rest = form[len(whole) :]
            if rest:
                tokens.update(vocabulary.going_on_with(rest))
            elif beginning not in paths:
                tokens.update(ending)
        children = {path[len(beginning)] for path in known if path[:-1] == beginning and path}
        found[beginning] = sorted(tokens - children)
    return found


class _Vocabulary:
    def __init__(self, texts: Mapping[int, str]) -> None:
        self._tokens: dict[str, list[int]] = defaultdict(list)
        self._pieces: dict[str, list[int]] = defaultdict(list)
        for token, text in texts.items():
            whole, piece, _ = text.partition(_PIECE)
            if text:
                (self._pieces if piece else self._tokens)[whole].append(token)
        self._sorted = sorted(self._tokens)

    def going_on_with(self, rest: str) -> Iterator[int]:
        """Tokens behind which a text may still say `rest`, or has said it and ended the word."""
        for end in range(1, len(rest) + 1):
            yield from self._tokens.get(rest[:end], ())
        for end in range(len(rest)):
            if not rest[end].isascii():
                yield from self._pieces.get(rest[:end], ())
        for text in self._sorted[bisect_left(self._sorted, rest) :]:
            if not text.startswith(rest):
                break
            if len(text) > len(rest) and ends_word(text[len(rest)]):
                yield from self._tokens[text]
        yield from self._pieces.get(rest, ())
