"""Read rows for training and judging. The filter never comes here: it works on files, in Rust."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from subl.errors import InputError
from subl.shards.bins import BEGIN
from subl.shards.decode import is_text
from subl.shards.format import format_of
from subl.shards.lines import row_lines
from subl.shards.listing import Piece, check_stated, pieces
from subl.shards.parquet import read_frames

Each = TypeVar("Each")


LOSS_MASK = "loss_mask"
"""The key, beside a `completion` or a message's `content`, of what training leaves out of it: all
of its text in parts, `{"text": "12", "learn": false}`. Text that was changed since it no longer
spells, and is refused."""


@dataclass(frozen=True)
class Row:
    """One row: `id` where the file gives one, `turns` as (role, content), `place` for errors.
    `left_out`: (turn, begin, end) of characters that no loss is asked of."""

    id: str | None
    turns: tuple[tuple[str, str], ...]
    place: str
    left_out: tuple[tuple[int, int, int], ...] = ()


class Line(NamedTuple):
    """One row as it is written: an object of JSON without a line feed; `place` for errors."""

    content: bytes
    value: dict[str, Any]
    place: str


def read_rows(paths: Sequence[Path | str]) -> Iterator[Row]:
    """Rows of all shards in order. Raises `InputError` naming file, line or row, and key."""
    columns = ["id", "prompt", "completion", "messages", LOSS_MASK]
    for value, place in read_objects(paths, columns):
        yield row_of(value, place)


def read_objects(
    paths: Sequence[Path | str], columns: Sequence[str] | None = None
) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of all shards in order as they are, each with its place for errors.

    Args:
        columns: of Parquet files, those to read; default: all.

    Raises:
        InputError: names file, and line or row.
    """

    def read(piece: Piece) -> Iterator[tuple[dict[str, Any], str]]:
        if format_of(piece.file) == ".parquet":
            return _parquet_objects(piece, columns)
        return ((line.value, line.place) for line in _lines(piece))

    return _of_all(paths, read)


def read_lines(paths: Sequence[Path | str]) -> Iterator[Line]:
    """Rows of all shards in order, as lines of JSON (those of Parquet as `open_lines` writes them).

    Raises:
        InputError: names file, and line or row.
    """
    return _of_all(paths, _lines)


def _of_all(paths: Sequence[Path | str], read: Callable[[Piece], Iterator[Each]]) -> Iterator[Each]:
    """What is read of each shard; of an artifact's, all that it should hold."""
    for path in map(Path, paths):
        for piece in pieces(path):
            count = 0
            for found in read(piece):
                count += 1
                yield found
            if count < (piece.rows or 0):
                raise InputError(
                    f"{piece.file} has {count:,} rows after row {piece.start:,}, and "
                    f"{path} is said to have {piece.rows:,} of them",
                    hint="it was cut or changed: split again",
                )
            check_stated(piece.file, piece.stated, count)


def _parquet_objects(
    piece: Piece, columns: Sequence[str] | None
) -> Iterator[tuple[dict[str, Any], str]]:
    frames = read_frames(piece.file, columns, piece.start, piece.rows)
    rows = (row for frame in frames for row in frame.iter_rows(named=True))
    for number, value in enumerate(rows, start=piece.start + 1):
        yield value, f"{piece.file}, row {number}"


def _lines(piece: Piece) -> Iterator[Line]:
    unit = "row" if format_of(piece.file) == ".parquet" else "line"
    begin = piece.skip or BEGIN
    start = piece.start - begin.rows
    end = None if piece.rows is None else start + piece.rows
    for number, content in islice(row_lines(piece.file, begin.bytes, begin.lines + 1), start, end):
        place = f"{piece.file}, {unit} {number}"
        yield Line(content, _object(content, place), place)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {where}: it is not UTF-8 text: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def row_of(value: dict[str, Any], where: str) -> Row:
    """A row from its object. Raises `InputError`; names `where`, and the key."""
    identity = value.get("id")
    turns = turns_of(value, where)
    messages = value.get("messages")
    if messages is None:
        turns = (*turns, ("assistant", text_of(value, "completion", where)))
    spoken = [{}, value] if messages is None else messages
    left_out = tuple(
        (number, *span)
        for number, (each, (_, text)) in enumerate(zip(spoken, turns, strict=True))
        for span in _left_out(each.get(LOSS_MASK), text, where)
    )
    return Row(None if identity is None else str(identity), turns, where, left_out)


def _left_out(mask: Any, text: str, where: str) -> Iterator[tuple[int, int]]:
    """The spans of a text that its mask leaves out."""
    if mask is None:
        return
    parts = mask if isinstance(mask, list) else [mask]
    for each in parts:
        known = isinstance(each, dict) and each.keys() == {"text", "learn"}
        if not (known and isinstance(each["text"], str) and isinstance(each["learn"], bool)):
            raise InputError(
                f"{where}: `{LOSS_MASK}` must be a list of parts of the text",
                hint='such as [{"text": "12", "learn": true}, {"text": "3", "learn": false}]',
            )
    if "".join(each["text"] for each in parts) != text:
        raise InputError(
            f"{where}: `{LOSS_MASK}` does not spell the text that it is of",
            hint="the text was changed after it was masked: mask it again, or take the mask away",
        )
    place = 0
    for each in parts:
        place += len(each["text"])
        if not each["learn"]:
            yield place - len(each["text"]), place


def turns_of(value: dict[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    """Who says what in a row: its `messages`, or its `prompt`.

    Raises:
        InputError: names `where`, and the key.
    """
    messages = value.get("messages")
    if messages is None:
        return (("user", text_of(value, "prompt", where)),)
    if not isinstance(messages, list):
        raise InputError(f"{where}: `messages` must be a list, got {type(messages).__name__}")
    turns = []
    for number, message in enumerate(messages):
        place = f"{where}, message {number + 1}"
        if not isinstance(message, dict):
            raise InputError(f"{place}: expected an object, got {type(message).__name__}")
        turns.append((text_of(message, "role", place), text_of(message, "content", place)))
    return tuple(turns)


def text_of(value: dict[str, Any], key: str, where: str) -> str:
    """The text that a row has under a key.

    Raises:
        InputError: it has none; names `where`, and the key.
    """
    text = value.get(key)
    if not isinstance(text, str):
        got = "nothing" if key not in value else type(text).__name__
        raise InputError(
            f"{where}: `{key}` must be a string, got {got}",
            hint="prompts need the key prompt, rows completion, too; or messages: role and content",
        )
    if not is_text(text):
        raise InputError(f"{where}: `{key}` holds half of a surrogate pair, which is no text")
    return text
