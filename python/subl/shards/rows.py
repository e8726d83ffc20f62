"""Read rows for training. The filter never comes here: it works on files, in Rust."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subl.errors import InputError
from subl.shards.format import EXPECTED, check_regular, format_of, is_named_shard
from subl.shards.lines import BLANK, BYTE_ORDER_MARK, open_lines
from subl.shards.parquet import read_frames

_OTHER_TEXT = (".json", ".csv", ".tsv")
"""Files of such names are JSON lines if their first line is an object."""


@dataclass(frozen=True)
class Row:
    """One row: `id` where the file gives one, `turns` as (role, content), `place` for errors."""

    id: str | None
    turns: tuple[tuple[str, str], ...]
    place: str


def shard_files(path: Path) -> list[Path]:
    """The shards that `path` names: itself, those in it, or those in its `kept/`, sorted.

    Raises:
        InputError: there are none.
    """
    check_regular(path)
    if path.is_file():
        if path.suffix.lower() in _OTHER_TEXT and not _begins_with_object(path):
            raise InputError(
                f"{path} is not JSON lines: its first line is no object", hint=EXPECTED
            )
        return [path]
    folder = path / "kept" if (path / "kept").is_dir() else path
    found = sorted(
        file for file in folder.glob("*") if is_named_shard(file.name) and file.is_file()
    )
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=EXPECTED)
    if not found:
        raise InputError(
            f"{path} has no rows",
            hint=EXPECTED,
        )
    return found


def _begins_with_object(file: Path) -> bool:
    """Whether it does, if it is text at all."""
    if format_of(file) == ".parquet":
        return True
    with open_lines(file) as lines:
        line = next((each for each in lines if each.strip(BLANK)), b"{}")
    try:
        return isinstance(json.loads(line.removeprefix(BYTE_ORDER_MARK)), dict)
    except (ValueError, RecursionError):
        return False


def read_rows(paths: Sequence[Path]) -> Iterator[Row]:
    """Rows of all shards in order. Raises `InputError` naming file, line or row, and key."""
    for path in paths:
        for file in shard_files(path):
            is_parquet = format_of(file) == ".parquet"
            yield from _read_parquet(file) if is_parquet else _read_file(file)


def _read_parquet(file: Path) -> Iterator[Row]:
    frames = read_frames(file, ["id", "prompt", "completion", "messages"])
    rows = (row for frame in frames for row in frame.iter_rows(named=True))
    for number, value in enumerate(rows, start=1):
        yield _checked(value, f"{file}, row {number}")


def _read_file(file: Path) -> Iterator[Row]:
    with open_lines(file) as lines:
        for number, line in enumerate(lines, start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content := content.strip(BLANK):
                yield _row(content, f"{file}, line {number}")


def _row(line: bytes, where: str) -> Row:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {where}: it is not UTF-8 text: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return _checked(value, where)


def _checked(value: dict[str, Any], where: str) -> Row:
    identity = value.get("id")
    if value.get("messages") is None:
        turns = [
            ("user", _text(value, "prompt", where)),
            ("assistant", _text(value, "completion", where)),
        ]
    else:
        turns = []
        messages = value["messages"]
        if not isinstance(messages, list):
            raise InputError(f"{where}: `messages` must be a list, got {type(messages).__name__}")
        for number, message in enumerate(messages):
            place = f"{where}, message {number + 1}"
            if not isinstance(message, dict):
                raise InputError(f"{place}: expected an object, got {type(message).__name__}")
            turns.append((_text(message, "role", place), _text(message, "content", place)))
    return Row(None if identity is None else str(identity), tuple(turns), where)


def _text(value: dict[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, str):
        got = "nothing" if key not in value else type(text).__name__
        raise InputError(
            f"{where}: `{key}` must be a string, got {got}",
            hint="rows need the keys prompt and completion, or messages with role and content",
        )
    if not _is_text(text):
        raise InputError(f"{where}: `{key}` holds half of a surrogate pair, which is no text")
    return text


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
