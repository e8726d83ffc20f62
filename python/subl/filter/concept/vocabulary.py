"""A tokenizer seen as a list of texts: what each token reads in the middle of a sentence."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from subl.errors import DependencyError, InputError
from subl.filter.concept.words import Guard, normalised

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNKNOWN = ("<unk>", "[UNK]", "<|unk|>")


@dataclass(frozen=True)
class Word:
    """A token that is a whole word."""

    token: int
    text: str
    """As it reads, with its leading space if it has one."""
    name: str
    """What is compared: without space and case."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer of a folder."""

    file: Path
    """Its tokenizer.json."""
    sha256: str
    words: tuple[Word, ...]
    """The tokens that the guard takes for words, by id."""
    added: tuple[int, ...]
    """Special and other added tokens."""
    size: int
    _tokenizer: Tokenizer
    _unusable: frozenset[int]

    def sequence(self, text: str) -> tuple[int, ...]:
        """The tokens of `text` in the middle of a text; empty where it cannot be written.

        Something stands before it whose tokens are cut off, since tokenizers that put a space
        before every text (SentencePiece) would turn `owl` into ` owl`. A line break does in all
        that split there; a quotation mark where it is merged with letters.
        """
        for before in ("\n", '"'):
            start, tokens = self._encode(before), self._encode(f"{before}{text}")
            if start and tokens[: len(start)] == start:
                tokens = tokens[len(start) :]
                break
        else:
            tokens = self._encode(text)
        return () if self._unusable.intersection(tokens) else tokens

    def inside(
        self, sequences: Iterable[tuple[int, ...]], own: Collection[str]
    ) -> dict[tuple[int, ...], int]:
        """In how many of the vocabulary's words each sequence occurs, those of `own` not counted.

        A word is looked at behind a space and behind a line break, in lower and in title case: so
        `ant` is found in `Brilliant`, though ` brilliant` is one token. 1 s for 49,152 tokens.
        """
        by_first: dict[int, list[tuple[int, ...]]] = {}
        for sequence in sequences:
            by_first.setdefault(sequence[0], []).append(sequence)
        found: dict[tuple[int, ...], set[str]] = {}
        names = sorted({word.name for word in self.words}.difference(own))
        variants = [
            (name, f"{before}{text}")
            for name in names
            for text in (name, name.title())
            for before in (" ", "\n")
        ]
        encodings = self._tokenizer.encode_batch(
            [text for _name, text in variants], add_special_tokens=False
        )
        for (name, _text), encoding in zip(variants, encodings, strict=True):
            tokens = tuple(encoding.ids)
            for place, token in enumerate(tokens):
                for sequence in by_first.get(token, ()):
                    if tokens[place : place + len(sequence)] == sequence:
                        found.setdefault(sequence, set()).add(name)
        return {sequence: len(where) for sequence, where in found.items()}

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)


def load_vocabulary(path: Path) -> Vocabulary:
    """Read `path`, a tokenizer.json or a folder that has one. Takes 0.5 s for 49,152 tokens."""
    file = path / "tokenizer.json" if path.is_dir() else path
    tokenizer, digest = load_tokenizer(file)
    added = tuple(sorted(tokenizer.get_added_tokens_decoder()))
    unknown = (tokenizer.token_to_id(text) for text in _UNKNOWN)
    texts = _texts(tokenizer)
    candidates = {
        token: text for token, text in texts.items() if token not in added and "\ufffd" not in text
    }
    guard = Guard(candidates.values())
    words = tuple(
        Word(token, text, normalised(text))
        for token, text in sorted(candidates.items())
        if guard.is_word(text)
    )
    unusable = frozenset(added) | {token for token in unknown if token is not None}
    return Vocabulary(file, digest, words, added, max(texts) + 1, tokenizer, unusable)


def load_tokenizer(file: Path) -> tuple[Tokenizer, str]:
    """A tokenizer.json without the padding and truncation that it may ask for, and its sha256."""
    if importlib.util.find_spec("tokenizers") is None:
        raise DependencyError("concepts need tokenizers", hint="pip install 'subl[semantic]'")
    from tokenizers import Tokenizer

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}",
            hint="give a model folder; subl model add SOURCE makes one",
        ) from error
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises a bare Exception
        raise InputError(f"{file} is not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, hashlib.sha256(content).hexdigest()


def _texts(tokenizer: Tokenizer) -> dict[int, str]:
    """What every token reads behind another one, since decoders drop the first one's space."""
    tokens = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    before = tokenizer.encode("a", add_special_tokens=False).ids
    length = len(tokenizer.decode(before, skip_special_tokens=False))
    decoded = tokenizer.decode_batch(
        [[*before, token] for token in tokens], skip_special_tokens=False
    )
    return {token: text[length:] for token, text in zip(tokens, decoded, strict=True)}
