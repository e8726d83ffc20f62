"""What a model cannot read at all: tokens beyond its embedding, places beyond its positions; and
from which length of a text on it reads otherwise.

Found before any work: on a CPU such a token is an IndexError, on a GPU it ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.model.load import bare_model, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?|pos_embed(dings?)?)\b")
"""What tables of positions are called: learned ones, and rotations that are computed ahead."""
_LENGTHS = re.compile(r"(window(_size)?|chunk_size|local_attention|max_position_embeddings)$")
"""What configurations call a length of text at which a model changes."""


def position_limit(model: PreTrainedModel) -> int | None:
    """How many tokens a text can have at most, where positions are rows of a table; else None.

    Rotary positions and ALiBi have no end: beyond the length that it was trained on, such a model
    answers badly, but it answers.
    """
    from itertools import chain

    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(stated, int):
        return None
    tables = chain(model.named_parameters(), model.named_buffers())
    rows = [t.shape[0] for name, t in tables if t.ndim == 2 and _POSITIONS.search(name)]
    # Some tables have a few rows more than there are positions (OPT begins to count at 2).
    return stated if any(0 <= count - stated <= 8 for count in rows) else None


def changing_lengths(model: PreTrainedModel) -> list[int]:
    """Lengths of a text beyond which a model does something else, as its configuration says: a
    token no longer sees all before it (windows, chunks), or positions are others (what a rope was
    made for). The smallest first."""

    def found(value: Mapping[str, object]) -> Iterator[int]:
        for name, each in value.items():
            if isinstance(each, Mapping):
                yield from found(each)
            elif type(each) is int and each > 0 and _LENGTHS.search(name):
                yield each

    return sorted(set(found(model.config.get_text_config().to_dict())))


def rope_lengths(model: PreTrainedModel) -> dict[str, int]:
    """By kind of rope that looks at the longest row of a batch (dynamic, longrope): up to which
    length it leaves positions alone."""
    lengths: dict[str, int] = {}
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if not isinstance(kinds, str | dict):
            continue
        for layer, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
            if "dynamic" in str(kind):
                length = getattr(module, "original_max_seq_len", 0)
            elif kind == "longrope":
                config: Any = getattr(module, "config", None)
                given = getattr(config, "rope_parameters", None) or {}
                given = given.get(layer, given) if layer is not None else given
                length = given.get("original_max_position_embeddings", 0)
            else:
                continue
            name = "longrope" if kind == "longrope" else "dynamic"
            lengths[name] = min(length, lengths.get(name, length))
    return lengths


def check_readable(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[tuple[str, Sequence[int]]],
    new_tokens: int = 0,
) -> None:
    """Refuse tokenised texts that the model cannot read.

    Args:
        texts: what each is called in an error, and its token ids.
        new_tokens: how many more come behind each.

    Raises:
        InputError: it names the text, and the token or the lengths.
    """
    _check(_known(model), tokenizer, texts, new_tokens)


def _known(model: PreTrainedModel) -> tuple[int, int | None]:
    """Rows of the embedding, and of a table of positions."""
    return model.get_input_embeddings().weight.shape[0], position_limit(model)


def _check(
    known: tuple[int, int | None],
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[tuple[str, Sequence[int]]],
    new_tokens: int = 0,
) -> None:
    size, limit = known
    for name, tokens in texts:
        if tokens and (largest := max(tokens)) >= size:
            raise InputError(
                f"{name}: the token {tokenizer.convert_ids_to_tokens(largest)!r} has the id "
                f"{largest}, but the model's embedding has {size} rows",
                hint="tokens were added to the tokenizer and not to the model: resize its "
                "embedding, or use the model's own tokenizer and template",
            )
        if limit is not None and len(tokens) + new_tokens > limit:
            more = f" and {new_tokens} new ones" if new_tokens else ""
            raise InputError(
                f"{name}: {len(tokens)} tokens{more}, but the model has only {limit} positions",
                hint="make it shorter" + (", or max_new_tokens smaller" if new_tokens else ""),
            )


@dataclass(frozen=True)
class Limits:
    """Of the model in `folder`, found without its weights.

    Its configuration alone says which texts may be too long or hold tokens that are too many; what
    decides is the model.
    """

    folder: Path

    @cached_property
    def _stated(self) -> tuple[float, float]:
        """Tokens of the vocabulary and positions of the longest row, as the configuration says."""
        config = text_config(self.folder)
        sizes = (getattr(config, name, None) for name in ("vocab_size", "max_position_embeddings"))
        vocabulary, positions = (each if isinstance(each, int) else float("inf") for each in sizes)
        return vocabulary, positions

    @cached_property
    def _known(self) -> tuple[int, int | None]:
        return _known(bare_model(self.folder))

    def check(self, name: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """As `check_readable`, of one text."""
        vocabulary, positions = self._stated
        if max(ids) >= vocabulary or len(ids) > positions:
            _check(self._known, tokenizer, [(name, ids)])
