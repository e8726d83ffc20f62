"""Names for content: sha256 of a file, of a directory, of a JSON value.

A directory's digest is the sha256 of what `sha256sum` would print for its files, sorted by path,
so that anyone can check one with coreutils alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from subl.errors import InputError

RECORDS = frozenset({"spec.json", "result.json", "statement.json"})
"""Files that describe an artifact. They hold times, so they are no part of its digest."""


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def json_digest(value: object) -> str:
    """Hex sha256 of a JSON value in its canonical form: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
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
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def directory_digest(directory: Path, *, leave_out: Iterable[str] = RECORDS) -> str:
    """Digest of the files below `directory`, but for those whose relative path is left out."""
    skipped = frozenset(leave_out)
    names = {path.relative_to(directory).as_posix(): path for path in files_of(directory)}
    return listing_digest(
        {name: file_digest(path) for name, path in names.items() if name not in skipped}
    )


def input_digest(path: Path) -> str:
    """Digest of anything a stage reads: a file, an artifact, or a plain directory.

    An artifact's is taken from its statement (verified by `lineage`, not here: a chain's keys are
    computed often); everything else is read and hashed.
    """
    from subl.artifact.build import artifact_digest

    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file():
        return file_digest(path)
    recorded = artifact_digest(path)
    return directory_digest(path) if recorded is None else recorded
