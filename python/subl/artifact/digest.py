"""Names for content: sha256 of a file, of a directory, of a JSON value.

A directory's digest is the sha256 of what `sha256sum` would print for its files, sorted by path,
so that anyone can check one with coreutils alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subl.errors import InputError

RECORDS = frozenset({"spec.json", "result.json", "statement.json", "metrics.ndjson"})
"""Files that describe how an artifact was made. They hold times, so they are no part of its
digest."""


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def json_text(value: object, **form: Any) -> str:
    """`value` as JSON that is UTF-8 text; `form` as `json.dumps` takes it.

    File names may be bytes that are no UTF-8. Python has each of these as half of a surrogate pair,
    which stands here as its escape, as in `caf\\udce9.jsonl`: `json.loads` and `os.fsencode` give
    the name back.
    """
    text = json.dumps(value, ensure_ascii=False, **form)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def json_digest(value: object) -> str:
    """Hex sha256 of a JSON value in its canonical form: sorted keys, no spaces, UTF-8."""
    text = json_text(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def files_of(directory: Path) -> list[Path]:
    """Every regular file below `directory`, sorted by its relative path; hidden ones left out."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    relative = ((path.relative_to(directory), path) for path in found)
    return [
        path
        for name, path in sorted(relative, key=lambda pair: pair[0].as_posix())
        if not any(part.startswith(".") for part in name.parts)
    ]


def listing_digest(digests: Mapping[str, str]) -> str:
    """Digest of a directory from its files' digests: {relative POSIX path: hex sha256}."""
    lines = "".join(_line(digests[name], name) for name in sorted(digests))
    return hashlib.sha256(os.fsencode(lines)).hexdigest()


def _line(digest: str, name: str) -> str:
    """A line of `sha256sum`, with its escapes for backslashes and line breaks in names."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def file_digests(directory: Path) -> dict[str, str]:
    """{relative POSIX path: hex sha256} of the files below `directory`."""
    return {
        path.relative_to(directory).as_posix(): file_digest(path) for path in files_of(directory)
    }


def directory_digest(directory: Path) -> str:
    """Digest of all files below a plain directory."""
    return listing_digest(file_digests(directory))


def data_digest(digests: Mapping[str, str]) -> str:
    """Digest of an artifact's data from its files' digests: the records left out."""
    return listing_digest({name: value for name, value in digests.items() if name not in RECORDS})
