"""Read rows for training and judging. The filter never comes here: it works on files, in Rust."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from subl.artifact import read_statement, row_counts
from subl.errors import InputError
from subl.shards.format import EXPECTED, check_named, check_regular, format_of, is_named_shard
from subl.shards.lines import BLANK, BYTE_ORDER_MARK, open_lines
from subl.shards.parquet import read_frames

Each = TypeVar("Each")

_OTHER_TEXT = (".json", ".csv", ".tsv")
"""Files of such names are JSON lines if their first line is an object."""


@dataclass(frozen=True)
class Row:
    """One row: `id` where the file gives one, `turns` as (role, content), `place` for errors."""

    id: str | None
    turns: tuple[tuple[str, str], ...]
    place: str


class Line(NamedTuple):
    """One row as it is written: an object of JSON without a line feed; `place` for errors."""

    content: bytes
    value: dict[str, Any]
    place: str


def shard_files(path: Path) -> list[Path]:
    """The shards that `path` names, sorted: itself, those that its statement names if it is an
    artifact, else those in it.

    Raises:
        InputError: there are none, or one of them cannot be read. What looks like a shard is never
            left out.
    """
    check_regular(path)
    if path.is_file():
        if path.suffix.lower() in _OTHER_TEXT and not _begins_with_object(path):
            raise InputError(
                f"{path} is not JSON lines: its first line is no object", hint=EXPECTED
            )
        return [path]
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=EXPECTED)
    found = _kept_files(path) or _listed(path)
    for file in found:
        _check_readable(file)
    if not found:
        raise InputError(f"{path} has no rows", hint=EXPECTED)
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


def _kept_files(path: Path) -> list[Path]:
    """The files of kept rows, if `path` is the artifact of a filter. A folder without a statement
    is no artifact, whatever its folders are called."""
    record = read_statement(path)
    names = [] if record is None else [subject["name"] for subject in record["subject"]]
    return sorted(path / name for name in names if name.startswith("kept/"))


def _listed(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}", hint=EXPECTED) from error
    for name in names:
        check_named(folder, name)
    return [folder / name for name in names if is_named_shard(name)]


def _check_readable(file: Path) -> None:
    if file.is_file():
        if os.access(file, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            return
        problem = "no permission"
    elif file.is_symlink() and not file.exists():
        problem = f"it is a link to {file.readlink()}, which does not exist"
    elif not file.exists():
        problem = "it is missing"
    else:
        problem = "it is a folder" if file.is_dir() else "it is no regular file"
    raise InputError(
        f"cannot read {file}: {problem}",
        hint="mend or remove it, or give the files to read one by one",
    )


class Stated(NamedTuple):
    """What the statement of an artifact says of a shard; `rows` is None where it says nothing."""

    rows: int | None
    sha256: str


def stated(paths: Sequence[Path]) -> dict[Path, Stated]:
    """What is stated of the files of artifacts among `paths`."""
    return {
        path / subject["name"]: Stated(counts.get(subject["name"]), subject["digest"]["sha256"])
        for path in paths
        if (record := read_statement(path)) is not None
        for counts in [row_counts(record)]
        for subject in record["subject"]
    }


def check_stated(file: Path, stated: Stated | None, rows: int, sha256: str | None = None) -> None:
    """Raise `InputError` where what was read of a shard is not what is stated of it.

    A stream of several gzip members or zstandard frames that was cut between two of them looks
    complete: only who knows the number of rows can tell.
    """
    if stated is None:
        return
    if stated.rows not in (None, rows):
        raise InputError(
            f"{file} has {rows:,} rows, but the statement of its artifact says {stated.rows:,}",
            hint="it was cut or changed: make that artifact again, or give the file by its name",
        )
    if sha256 is not None and sha256 != stated.sha256:
        raise InputError(
            f"{file} is not what the statement of its artifact says: sha256 "
            f"{stated.sha256[:12]} then, {sha256[:12]} now",
            hint="it was changed: make that artifact again, or give the file by its name",
        )


def read_rows(paths: Sequence[Path]) -> Iterator[Row]:
    """Rows of all shards in order. Raises `InputError` naming file, line or row, and key."""
    for value, place in read_objects(paths, ["id", "prompt", "completion", "messages"]):
        yield _checked(value, place)


def read_objects(
    paths: Sequence[Path], columns: Sequence[str] | None = None
) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of all shards in order as they are, each with its place for errors.

    Args:
        columns: of Parquet files, those to read; default: all.

    Raises:
        InputError: names file, and line or row.
    """

    def read(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
        if format_of(file) == ".parquet":
            return _parquet_objects(file, columns)
        return ((line.value, line.place) for line in _lines(file))

    return _of_all(paths, read)


def read_lines(paths: Sequence[Path]) -> Iterator[Line]:
    """Rows of all shards in order, as lines of JSON (those of Parquet as `open_lines` writes them).

    Raises:
        InputError: names file, and line or row.
    """
    return _of_all(paths, _lines)


def _of_all(paths: Sequence[Path], read: Callable[[Path], Iterator[Each]]) -> Iterator[Each]:
    """What is read of each shard; of an artifact's, all that it should hold."""
    for path in paths:
        of_artifact = stated([path])
        for file in shard_files(path):
            count = 0
            for found in read(file):
                count += 1
                yield found
            check_stated(file, of_artifact.get(file), count)


def _parquet_objects(
    file: Path, columns: Sequence[str] | None
) -> Iterator[tuple[dict[str, Any], str]]:
    frames = read_frames(file, columns)
    rows = (row for frame in frames for row in frame.iter_rows(named=True))
    for number, value in enumerate(rows, start=1):
        yield value, f"{file}, row {number}"


def _lines(file: Path) -> Iterator[Line]:
    unit = "row" if format_of(file) == ".parquet" else "line"
    with open_lines(file) as lines:
        for number, line in enumerate(lines, start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content := content.strip(BLANK):
                place = f"{file}, {unit} {number}"
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


def _checked(value: dict[str, Any], where: str) -> Row:
    identity = value.get("id")
    turns = turns_of(value, where)
    if value.get("messages") is None:
        turns = (*turns, ("assistant", text_of(value, "completion", where)))
    return Row(None if identity is None else str(identity), turns, where)


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
    if not _is_text(text):
        raise InputError(f"{where}: `{key}` holds half of a surrogate pair, which is no text")
    return text


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
