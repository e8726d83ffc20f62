"""Rows as token ids on disk: tokenised once, then mapped into memory by every rank.

A folder: `ids.npy` and `targets.npy` (all rows one after another: token ids, and whether a token
is one that the loss asks for), `offsets.npy` (where each row begins) and `index.json`, written
last. A row's `key` names its content, so that what belongs to a row (a teacher's distribution) is
found again wherever the row occurs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from subl.artifact import sync, write_atomically
from subl.errors import InputError
from subl.model.chat import PLAIN, Chat, Piece, Turn, text_ids
from subl.model.limits import check_readable
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.shards import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.model.limits import Limits

_BATCH_ROWS = 1000


@dataclass(frozen=True)
class TokenCounts:
    """What became of the rows. `dropped` and `truncated` were longer than was allowed."""

    rows: int
    tokens: int
    target_tokens: int
    longest: int
    dropped: int
    truncated: int


class Tokens:
    """Tokenised rows. Opening maps the files; only rows that are asked for are read."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        self.counts = TokenCounts(**json.loads((folder / "index.json").read_text(encoding="utf-8")))
        self._ids = np.load(folder / "ids.npy", mmap_mode="r", allow_pickle=False)
        self._targets = np.load(folder / "targets.npy", mmap_mode="r", allow_pickle=False)
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r", allow_pickle=False)
        self.lengths: NDArray[np.int64] = np.diff(self._offsets)
        """Tokens of each row."""
        counts = np.add.reduceat(self._targets, self._offsets[:-1], dtype=np.int64)
        self.target_counts: NDArray[np.int64] = counts
        """Target tokens of each row."""

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Token ids of a row, and which of them are targets (never the first)."""
        part = slice(int(self._offsets[number]), int(self._offsets[number + 1]))
        return self._ids[part], self._targets[part]

    def largest_id(self) -> int:
        """The largest token id."""
        return int(self._ids.max())

    def extremes(self) -> list[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
        """The longest row, and the shortest."""
        return [self.row(int(self.lengths.argmax())), self.row(int(self.lengths.argmin()))]

    def key(self, number: int) -> bytes:
        """16 bytes that name a row's tokens and targets."""
        ids, targets = self.row(number)
        return hashlib.sha256(ids.tobytes() + targets.tobytes()).digest()[:16]


def tokenise(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterator[Row],
    folder: Path,
    *,
    max_row_tokens: int | None = None,
    long_rows: Literal["error", "truncate", "drop"] = "error",
    whole_turn: bool = False,
    template: Template = PLAIN,
    limits: Limits | None = None,
    report: Report = silent,
) -> Tokens:
    """Make `folder` of `rows`, or open it where it is there already.

    Args:
        limits: of the model that is to read them.

    Raises:
        InputError: there are no rows, or one cannot be trained on; names it.
    """
    import numpy as np

    if (folder / "index.json").is_file():
        return Tokens(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids, targets = _Growing(folder / "ids.bin"), _Growing(folder / "targets.bin")
    offsets, dropped, truncated, target_tokens = [0], 0, 0, 0
    chat = Chat(tokenizer, template)
    try:
        while batch := list(islice(rows, _BATCH_ROWS)):
            for row, (row_ids, row_targets) in zip(
                batch, _encoded(tokenizer, chat, batch, whole_turn), strict=True
            ):
                if max_row_tokens is not None and len(row_ids) > max_row_tokens:
                    if long_rows == "error":
                        raise InputError(
                            f"{row.place}: {len(row_ids)} tokens are more than "
                            f"max_row_tokens = {max_row_tokens}",
                            hint='raise it, or set long_rows = "truncate" or "drop"',
                        )
                    if long_rows == "drop" or not any(row_targets[1:max_row_tokens]):
                        dropped += 1  # cut to nothing but its prompt, it would teach nothing
                        continue
                    truncated += 1
                    row_ids = row_ids[:max_row_tokens]
                    row_targets = row_targets[:max_row_tokens]
                if limits is not None:
                    limits.check(row.place, row_ids, tokenizer)
                ids.append(np.array(row_ids, np.uint32))
                targets.append(np.array(row_targets, np.bool_))
                offsets.append(offsets[-1] + len(row_ids))
                target_tokens += sum(row_targets)
            report(Progress("tokenise", len(offsets) - 1 + dropped, None, "rows"))
    finally:
        ids.close()
        targets.close()
    if len(offsets) == 1:
        raise InputError(
            "there are no rows to train on",
            hint="max_row_tokens dropped them all" if dropped else "did the filter keep any?",
        )
    longest = int(np.diff(offsets).max())
    counts = TokenCounts(len(offsets) - 1, offsets[-1], target_tokens, longest, dropped, truncated)
    ids.save(np.dtype(np.uint32), folder / "ids.npy")
    targets.save(np.dtype(np.bool_), folder / "targets.npy")
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))
    sync(folder / "offsets.npy")
    write_atomically(folder / "index.json", json.dumps(asdict(counts)) + "\n")
    return Tokens(folder)


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    chat: Chat,
    rows: Sequence[Row],
    whole_turn: bool,
) -> Iterator[tuple[list[int], list[bool]]]:
    """Token ids and targets of each row; one call of the tokenizer for all their pieces."""
    cut: list[list[Piece]] = []
    for row in rows:
        turns = [Turn(*turn) for turn in row.turns]
        try:
            cut.append(chat.pieces(turns, whole_turn=whole_turn))
        except InputError as error:
            raise InputError(f"{row.place}: {error.message}", error.hint) from error
    # A later question is tokenised behind the answer before it, as in the prompt that asks it:
    # some tokenizers begin a text as they begin no other part of it.
    texts = [
        (each[number - 1].text if number > 1 and not piece.target else "") + piece.text
        for each in cut
        for number, piece in enumerate(each)
    ]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    for row, each in zip(rows, cut, strict=True):
        ids: list[int] = []
        targets: list[bool] = []
        before: list[int] = []
        for number, piece in enumerate(each):
            piece_ids = next(encoded)
            if number > 1 and not piece.target:
                if piece_ids[: len(before)] == before:
                    piece_ids = piece_ids[len(before) :]
                else:  # a token reaches over the seam
                    piece_ids = list(text_ids(tokenizer, piece.text))
            before = piece_ids
            ids += piece_ids
            targets += [piece.target] * len(piece_ids)
        if not any(targets[1:]):
            raise InputError(f"{row.place}: no token is a target", hint="give it a prompt")
        targets[0] = False  # nothing predicts it
        yield ids, targets


def check_tokens(
    tokens: Tokens, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse rows that a loaded model cannot read, or whose tokens its head does not know.

    Raises:
        InputError: names a row.
    """
    largest, longest = tokens.largest_id(), int(tokens.lengths.argmax())
    heads = model.get_output_embeddings().weight.shape[0]
    tables = min(heads, model.get_input_embeddings().weight.shape[0])
    suspects = [longest]
    if largest >= tables:
        suspects += [n for n in range(len(tokens)) if largest in tokens.row(n)[0]][:1]
    for number in suspects:
        ids = tokens.row(number)[0].tolist()
        check_readable(model, tokenizer, [(f"row {number + 1}", ids)])
    if largest >= heads:
        raise InputError(
            f"row {suspects[-1] + 1}: the token {tokenizer.convert_ids_to_tokens(largest)!r} has "
            f"the id {largest}, but the model's head has {heads} rows",
            hint="resize the head with the embedding",
        )


class _Growing:
    """An array on disk whose length is not known yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def append(self, values: NDArray[np.generic]) -> None:
        self._file.write(values.tobytes())

    def close(self) -> None:
        self._file.close()

    def save(self, dtype: np.dtype[np.generic], target: Path) -> None:
        """Give what was written the header of an .npy file."""
        import numpy as np

        size = self._path.stat().st_size // dtype.itemsize
        values = np.memmap(self._path, dtype, "r", shape=(size,))
        np.save(target, values)
        sync(target)
        self._path.unlink()
