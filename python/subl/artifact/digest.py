"""Names for content: sha256 of a file, of a directory, of a JSON value.

A directory's digest is the sha256 of what `sha256sum` would print for its files, sorted by path,
so that anyone can check one with coreutils alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from subl.artifact.identity import Identity
from subl.errors import InputError

ENVELOPE = "statement.dsse.json"
"""Signatures over an artifact's statement: they come later, so the statement does not know them."""

RECORDS = frozenset(
    {"spec.json", "result.json", "statement.json", ENVELOPE, "metrics.ndjson", "condition.path"}
)
"""Files that say how an artifact was made, with times, or where what it refers to is. They are no
part of its digest: made again, or in another place, it is the same."""

_BLOCK_BYTES = 1 << 18


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes, which are read.

    Raises:
        InputError: it cannot be read, or changed meanwhile.
    """
    try:
        # Not `hashlib.file_digest`: it clears its buffer for each file, however small.
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            before = Identity.of(file.fileno())
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            after = Identity.of(file.fileno())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if after != before:
        raise changed(path)
    return digest.hexdigest()


def changed(path: Path) -> InputError:
    """Of a file that is not what it was when it began to be read."""
    return InputError(
        f"{path} changed while it was read",
        hint="run the command again when nothing writes to it any more",
    )


def json_text(value: object, **form: Any) -> str:
    """`value` as JSON that is UTF-8 text; `form` as `json.dumps` takes it.

    File names may be bytes that are no UTF-8. Python has each of these as half of a surrogate pair,
    which stands here as its escape, as in `caf\\udce9.jsonl`: `json.loads` and `os.fsencode` give
    the name back.
    """
    return _escaped(json.dumps(value, ensure_ascii=False, **form))


def _escaped(text: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def record_text(value: object) -> str:
    """`value` as JSON for people and `diff`: sorted keys and items of lists have a line each.

    So each of 100,000 files has a line, made by the encoder in C: the one in Python, which indents
    whatever there is, was a fifth of the time of a filter of as many.
    """
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False).encode

    def laid_out(value: Any, margin: str) -> str:
        within = f"{margin}  "
        if not value or not isinstance(value, dict | list | tuple):
            return encode(value)
        if isinstance(value, dict):
            first, last = "{", "}"
            parts = [f"{encode(str(key))}: {laid_out(value[key], within)}" for key in sorted(value)]
        else:
            first, last = "[", "]"
            parts = [encode(item) for item in value]
        lines = f",\n{within}".join(parts)
        return f"{first}\n{within}{lines}\n{margin}{last}"

    return _escaped(laid_out(value, ""))


def json_digest(value: object) -> str:
    """Hex sha256 of a JSON value in its canonical form: sorted keys, no spaces, UTF-8."""
    text = json_text(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(directory: Path) -> list[str]:
    """The relative POSIX path of every regular file below `directory`, sorted; hidden ones left
    out."""
    return sorted(_files_below(directory, ""))


def _files_below(folder: Path | str, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _files_below(entry.path, f"{prefix}{entry.name}/")
                elif entry.is_file():
                    yield f"{prefix}{entry.name}"
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error


def listing_digest(digests: Mapping[str, str]) -> str:
    """Digest of a directory from its files' digests: {relative POSIX path: hex sha256}."""
    lines = "".join(_line(digests[name], name) for name in sorted(digests))
    return hashlib.sha256(os.fsencode(lines)).hexdigest()


def _line(digest: str, name: str) -> str:
    """A line of `sha256sum`, with its escapes for backslashes and line breaks in names."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def file_digests(directory: Path, of: Callable[[Path], str] = file_digest) -> dict[str, str]:
    """{relative POSIX path: hex sha256} of the files below `directory`; `of` finds each."""
    return {name: of(directory / name) for name in files_of(directory)}


def directory_digest(directory: Path, of: Callable[[Path], str] = file_digest) -> str:
    """Digest of all files below a plain directory."""
    return listing_digest(file_digests(directory, of))


def data_digest(digests: Mapping[str, str]) -> str:
    """Digest of an artifact's data from its files' digests: the records left out."""
    return listing_digest({name: value for name, value in digests.items() if name not in RECORDS})
