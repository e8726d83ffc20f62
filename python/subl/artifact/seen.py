"""What is known of files that were read before: while a file stays the same one, it is read once.

This process remembers the digest of what it has read, and a hidden record beside an artifact
(`.seen.json`) has it for the next one. What is known is only ever the digest of an identity: a
record that is missing, damaged, or about files that are others by now costs a reading, no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from subl.artifact.digest import changed, file_digest, record_text
from subl.artifact.files import write_atomically
from subl.artifact.identity import Identity, identify
from subl.errors import OutputError

RECORD = ".seen.json"
_FORMAT = 1
_DIGEST_LETTERS = 64


@dataclass
class _Memory:
    """Hex sha256 by identity. `fresh` are those of files which could have changed unseen right
    after: that such a file looks the same later tells nothing to anyone but who read it."""

    rereads: bool = False
    known: dict[Identity, str] = field(default_factory=dict)
    fresh: dict[Identity, str] = field(default_factory=dict)


_memory = _Memory()


@contextmanager
def rereading(on: bool = True) -> Iterator[None]:
    """Within, no record is believed: every input is read once more, artifacts, too."""
    global _memory
    before = _memory
    if on:
        _memory = _Memory(rereads=True)
    try:
        yield
    finally:
        _memory = before


def rereads() -> bool:
    """Whether no record is believed."""
    return _memory.rereads


class Reading:
    """A file that is about to be read, by whomever: what was read is then known of this file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began_ns = time.time_ns()
        self.identity = identify(path)

    def came_to(self, digest: str) -> Identity | None:
        """Remember the digest of what was read. Its identity, where that tells the file by.

        Raises:
            InputError: the file has changed meanwhile.
        """
        if (now := identify(self._path)) != self.identity:
            # One that grows may have been read to its end of then, in the middle of a row.
            if now.size != self.identity.size or Record().digest(self._path) != digest:
                raise changed(self._path)
            return None
        settled = self.identity.settled(self._began_ns)
        (_memory.known if settled else _memory.fresh)[self.identity] = digest
        return self.identity if settled else None


class Record:
    """The files that somebody asks for, with what is known of them; noted beside an artifact."""

    def __init__(self) -> None:
        self._found: dict[Identity, str] = {}

    def digest(self, path: Path) -> str:
        """Hex sha256 of a file, which is read if need be."""
        return self._find(path, {})

    def same_digest(self, path: Path) -> str:
        """The same of a file that this process has read: it is read if it is another by now."""
        return self._find(path, _memory.fresh)

    def known_digest(self, path: Path) -> str | None:
        """The same, if it is known without reading."""
        identity = identify(path)
        if (known := _memory.known.get(identity)) is not None:
            self._found[identity] = known
        return known

    def _find(self, path: Path, fresh: Mapping[Identity, str]) -> str:
        reading = Reading(path)
        digest = _memory.known.get(reading.identity) or fresh.get(reading.identity)
        if digest is None:
            digest = file_digest(path)
            reading.came_to(digest)
        if reading.identity in _memory.known:
            self._found[reading.identity] = digest
        return digest

    def note(self, folder: Path) -> None:
        """Leave in `folder` what was found known, if anything can be written there."""
        if self._found != _noted(folder):
            files = [[*identity, digest] for identity, digest in self._found.items()]
            text = record_text({"format": _FORMAT, "files": files})
            with suppress(OutputError):
                write_atomically(folder / RECORD, f"{text}\n")


def remember(known: Mapping[Identity, str]) -> None:
    """Take digests for known that another process has found."""
    if not _memory.rereads:
        for identity, digest in known.items():
            _memory.known.setdefault(identity, digest)


def recall(folder: Path) -> None:
    """Take for known what the record in `folder` says."""
    remember(_noted(folder))


def _noted(folder: Path) -> dict[Identity, str]:
    """A record as it was noted; nothing where there is none like that."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        if record["format"] != _FORMAT:
            return {}
        found = {Identity(*map(int, each)): str(digest) for *each, digest in record["files"]}
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if all(len(digest) == _DIGEST_LETTERS for digest in found.values()) else {}
