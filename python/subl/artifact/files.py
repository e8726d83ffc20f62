"""Files that appear whole or not at all: made under a name that nothing has, fsync, rename."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from subl.errors import OutputError

_TEMPORARY = ".tmp"


def is_temporary(path: Path) -> bool:
    """Whether a file is one that has not got its name yet, or never will."""
    return path.name.startswith(".") and path.suffix == _TEMPORARY


def sync(path: Path | str) -> None:
    """Have the kernel put a file or directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_notes(file: Path) -> Iterator[dict[str, Any]]:
    """What was appended to a file note by note, each an object of JSON on a line of its own; of no
    file nothing. A line that was cut short is no note."""
    # Whatever is no line feed is escaped in JSON, so a line is a note.
    for line in file.read_bytes().split(b"\n") if file.exists() else []:
        try:
            note = json.loads(line)
        except ValueError:
            continue
        yield note


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write `data` to `path` so that a reader sees the old content or the new, never a part."""
    content = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that gets the name `path` once it is complete. Raises OSError.

    Until then its name is a random one: a fixed one, such as `path` with another ending, may be
    that of somebody's file.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}{_TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()
