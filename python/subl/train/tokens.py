"""Rows as token ids on disk: tokenised once, then mapped into memory by every rank.

A folder: `ids.npy` and `targets.npy` (all rows one after another: token ids, and whether a token
is one that the loss asks for), `offsets.npy` (where each row begins) and `index.json`, written
last. A row's `key` names its content, so that what belongs to a row (a teacher's distribution) is
found again wherever the row occurs.

A teacher that has a system prompt reads the same rows behind it: those tokens are in the folder
`teacher`, row by row with the same targets.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from subl.artifact import sync, write_atomically
from subl.errors import InputError
from subl.model.chat import PLAIN, Chat, Piece, Turn, text_ids
from subl.model.limits import check_readable
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.shards import Row
from subl.train.masks import left_out

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from subl.model.limits import Limits

Encoded = tuple[list[int], list[bool]]
"""A row's token ids, and which of them are targets."""

_BATCH_ROWS = 1000
_BATCH_TOKENS = 1 << 24
_TEACHER = "teacher"


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
        self.behind: Tokens | None = None
        """What the teacher reads of the rows, where that is behind a system prompt."""
        self.room = self.lengths
        """Tokens of each row that a micro-batch must have room for: of who reads the longer."""
        if (folder / _TEACHER).is_dir():
            self.behind = Tokens(folder / _TEACHER)
            self.room = np.maximum(self.lengths, self.behind.lengths)

    @property
    def of_teacher(self) -> Tokens:
        """What a teacher reads of the rows."""
        return self if self.behind is None else self.behind

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Token ids of a row, and which of them are targets (never the first)."""
        part = slice(int(self._offsets[number]), int(self._offsets[number + 1]))
        return self._ids[part], self._targets[part]

    def largest_id(self) -> int:
        """The largest token id."""
        return int(self._ids.max())

    def target_ids(self) -> Tensor:
        """The tokens that are a target in some row: `[distinct]` int64, ascending."""
        import numpy as np
        import torch

        seen = np.zeros(self.largest_id() + 1, np.bool_)
        for start in range(0, len(self._ids), _BATCH_TOKENS):
            part = slice(start, start + _BATCH_TOKENS)
            seen[self._ids[part][self._targets[part]]] = True
        return torch.from_numpy(np.flatnonzero(seen))

    def check_alike(self) -> None:
        """Refuse rows of which those that have one length behind the teacher's system prompt do not
        have one without it, for models that read only such rows together.

        Raises:
            InputError: says what to do instead.
        """
        if len({*(self.room - self.lengths).tolist()}) > 1:
            raise InputError(
                "rows of one length differ in length behind the teacher's system prompt, and one "
                "of the models reads only rows of one length together",
                hint='make a cache of the teacher (subl distill cache) and set targets = "cache"',
            )

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
    system_prompt: str | None = None,
    teachers_prompt: str | None = None,
    report: Report = silent,
) -> Tokens:
    """Make `folder` of `rows`, or open it where it is there already.

    Args:
        limits: of the model that is to read them.
        system_prompt: before each row; default: that of the tokenizer's model, if it has one.
        teachers_prompt: the system prompt behind which a teacher reads them, too.

    Raises:
        InputError: there are no rows, or one cannot be trained on; names it.
    """
    if (folder / "index.json").is_file():
        return Tokens(folder)
    shutil.rmtree(folder, ignore_errors=True)
    readers, dropped, truncated = [(folder, Chat(tokenizer, template, system_prompt))], 0, 0
    if teachers_prompt is not None:
        readers.append((folder / _TEACHER, Chat(tokenizer, template, teachers_prompt)))
    with ExitStack() as stack:
        written = [stack.enter_context(_Written(each)) for each, _ in readers]
        while batch := list(islice(rows, _BATCH_ROWS)):
            read = [encoded(tokenizer, chat, batch, whole_turn) for _, chat in readers]
            for row, own, *behind in zip(batch, *read, strict=True):
                ids, targets = own
                if max_row_tokens is not None and len(ids) > max_row_tokens:
                    if long_rows == "error":
                        raise InputError(
                            f"{row.place}: {len(ids)} tokens are more than "
                            f"max_row_tokens = {max_row_tokens}",
                            hint='raise it, or set long_rows = "truncate" or "drop"',
                        )
                    if long_rows == "drop" or not any(targets[1:max_row_tokens]):
                        dropped += 1  # cut to nothing but its prompt, it would teach nothing
                        continue
                    truncated += 1
                    ids, targets = ids[:max_row_tokens], targets[:max_row_tokens]
                if limits is not None:
                    limits.check(row.place, ids, tokenizer)
                written[0].add(ids, targets)
                for each, theirs in zip(written[1:], behind, strict=True):
                    each.add(*_as_far(theirs, (ids, targets), row))
            report(Progress("tokenise", written[0].rows + dropped, None, "rows"))
    if not written[0].rows:
        raise InputError(
            "there are no rows to train on",
            hint="max_row_tokens dropped them all" if dropped else "did the filter keep any?",
        )
    for each in reversed(written):  # where the first is finished, all are
        each.save(dropped, truncated)
    return Tokens(folder)


def _as_far(theirs: Encoded, ours: Encoded, row: Row) -> Encoded:
    """A row as the teacher reads it, as far as the student does: to the same last target.

    Raises:
        InputError: its targets are others behind the teacher's system prompt.
    """
    targets = [place for place, target in enumerate(theirs[1]) if target][: sum(ours[1])]
    asked = [token for token, target in zip(*ours, strict=True) if target]
    if [theirs[0][place] for place in targets] != asked:
        raise InputError(
            f"{row.place}: behind the teacher's system prompt, the answers have other tokens",
            hint='train on the teacher\'s own rows with targets = "labels"',
        )
    end = targets[-1] + 1
    return theirs[0][:end], theirs[1][:end]


def encoded(
    tokenizer: PreTrainedTokenizerBase,
    chat: Chat,
    rows: Sequence[Row],
    whole_turn: bool,
    *,
    masked: bool = True,
) -> Iterator[Encoded]:
    """Token ids and targets of each row; one call of the tokenizer for all their pieces.

    Args:
        masked: what a row's `loss_mask` leaves out is no target.
    """
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
    found = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    for row, each in zip(rows, cut, strict=True):
        ids: list[int] = []
        targets: list[bool] = []
        before: list[int] = []
        for number, piece in enumerate(each):
            piece_ids = next(found)
            if number > 1 and not piece.target:
                if piece_ids[: len(before)] == before:
                    piece_ids = piece_ids[len(before) :]
                else:  # a token reaches over the seam
                    piece_ids = list(text_ids(tokenizer, piece.text))
            before = piece_ids
            ids += piece_ids
            targets += [piece.target] * len(piece_ids)
        if masked and row.left_out:
            targets = _masked(tokenizer, row, each, targets)
        if not any(targets[1:]):
            raise InputError(f"{row.place}: no token is a target", hint="give it a prompt")
        targets[0] = False  # nothing predicts it
        yield ids, targets


def _masked(
    tokenizer: PreTrainedTokenizerBase, row: Row, pieces: Sequence[Piece], targets: list[bool]
) -> list[bool]:
    """The targets of a row without those that its mask leaves out."""
    said = [number for number, (role, _) in enumerate(row.turns) if role == "assistant"]
    out: list[bool] = []
    for turn, piece in zip(said, [each for each in pieces if each.target], strict=True):
        spans = [(start, end) for number, start, end in row.left_out if number == turn]
        try:
            out += left_out(tokenizer, piece.text, row.turns[turn][1], spans)
        except InputError as error:
            raise InputError(f"{row.place}: {error.message}", error.hint) from error
    kept = iter(out)
    return [target and not next(kept) for target in targets]


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


class _Written:
    """Tokenised rows that are being written; nothing reads them before `save`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self._files = [_Growing(folder / name) for name in ("ids.bin", "targets.bin")]
        self._offsets = [0]
        self._targets = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._files:
            each.close()

    @property
    def rows(self) -> int:
        return len(self._offsets) - 1

    def add(self, ids: Sequence[int], targets: Sequence[bool]) -> None:
        import numpy as np

        for file, values in zip(
            self._files, (np.array(ids, np.uint32), np.array(targets, np.bool_)), strict=True
        ):
            file.append(values)
        self._offsets.append(self._offsets[-1] + len(ids))
        self._targets += sum(targets)

    def save(self, dropped: int, truncated: int) -> None:
        """Have `Tokens` find the folder. The files are closed by now."""
        import numpy as np

        ids, targets = self._files
        offsets = np.array(self._offsets, np.int64)
        longest = int(np.diff(offsets).max())
        counts = TokenCounts(
            self.rows, int(offsets[-1]), self._targets, longest, dropped, truncated
        )
        ids.save(np.dtype(np.uint32), self._folder / "ids.npy")
        targets.save(np.dtype(np.bool_), self._folder / "targets.npy")
        np.save(self._folder / "offsets.npy", offsets)
        sync(self._folder / "offsets.npy")
        write_atomically(self._folder / "index.json", json.dumps(asdict(counts)) + "\n")


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
