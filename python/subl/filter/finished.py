"""Which shards of an unfinished run are finished, with what the engine found in each.

A note is a line of a file in the run's folder of unfinished work; each slice has its own file. What
a shard's files hold is on the disk before it is noted, but not their names: where a crash takes
away these or the note, the shard is filtered again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import subl_core

from subl.artifact import Identity, read_notes, remember, write_atomically

Statistics = dict[str, Any]
"""The statistics of one shard as `subl_core.filter_shard` returns them."""

_FILES = "finished*.ndjson"


class Finished:
    """The notes in a folder: `found` are those of an interrupted run, and of its slices. New ones
    are the slice's that `mine` names."""

    def __init__(self, folder: Path, mine: str = "") -> None:
        self.found = noted(folder)
        file = folder / f"finished{mine}.ndjson"
        write_atomically(
            file,
            "".join(
                _line(note["name"], json.dumps(note["statistics"]), note["identity"])
                for note in _notes_in(file)
            ),
        )
        self._file = file.open("ab", buffering=0)
        self._lock = threading.Lock()

    def __enter__(self) -> Finished:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, statistics: str, identity: Identity | None) -> None:
        """Note a shard, and of which file it was made if that can be told by its looks."""
        with self._lock:
            self._file.write(_line(name, statistics, identity).encode())


def noted(folder: Path) -> dict[str, Statistics]:
    """What is noted of an interrupted run's shards."""
    return {note["name"]: note["statistics"] for note in _notes(folder)}


def remembered(folder: Path) -> dict[str, Statistics]:
    """What is noted of an interrupted run's shards; the digests of their inputs are known then."""
    notes = list(_notes(folder))
    remember(
        {
            Identity(*note["identity"]): note["statistics"]["sha256"]["input"]
            for note in notes
            if note["identity"] is not None
        }
    )
    return {note["name"]: note["statistics"] for note in notes}


def _notes(folder: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob(_FILES)):
        yield from _notes_in(file)


def _notes_in(file: Path) -> Sequence[dict[str, Any]]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return []
    return _read(file, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)  # a slice asks several times what a thousand others have noted
def _read(file: Path, inode: int, size: int, modified_ns: int) -> Sequence[dict[str, Any]]:
    notes = read_notes(file)
    # Another engine may write other bytes.
    return [note for note in notes if note["engine"] == subl_core.__version__]


def _line(name: str, statistics: str, identity: Identity | None) -> str:
    note = json.dumps({"engine": subl_core.__version__, "name": name, "identity": identity})
    return f'{note[:-1]}, "statistics": {statistics}}}\n'
