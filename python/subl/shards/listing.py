"""Which files a data set is: what each path that is given stands for.

A file is itself; a folder the shards in it; an artifact what its statement names; a manifest the
shards that it lists; a bin its parts.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from subl.artifact import read_statement, row_counts
from subl.errors import InputError
from subl.shards.bins import SUFFIX, Part, Skip, is_bin, read_bin
from subl.shards.format import EXPECTED, check_named, check_regular, format_of, is_named_shard
from subl.shards.lines import BLANK, BYTE_ORDER_MARK, open_lines
from subl.shards.table import check_same, is_manifest, read_table

_OTHER_TEXT = (".json", ".csv", ".tsv", ".toml")
"""Files of such names are JSON lines if their first line is an object."""


def shard_files(path: Path) -> list[Path]:
    """The shards that `path` stands for, those of a folder sorted.

    Raises:
        InputError: there are none; or one of them cannot be read, or is not what a manifest or a
            bin says of it; or of one it is not the whole. What looks like a shard is never left
            out.
    """
    check_regular(path)
    if path.is_file():
        if is_bin(path):
            return [_whole(path, part) for part in read_bin(path).parts]
        if is_manifest(path):
            return _listed_in(path)
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
        has_bins = any(is_bin(each) for each in path.iterdir())
        hint = f"each bin is an input: {path}/*{SUFFIX}" if has_bins else EXPECTED
        raise InputError(f"{path} has no rows", hint=hint)
    return found


def _whole(file: Path, part: Part) -> Path:
    if part.start is not None:
        raise InputError(
            f"{file} has rows of {part.path}, and here whole files are taken",
            hint="split without --cut",
        )
    return _checked(part)


def _checked(part: Part) -> Path:
    """The shard of a part, if it looks as it did when bins were made."""
    _check_readable(part.path)
    if (found := part.path.stat().st_size) != part.size:
        raise InputError(
            f"{part.path} has {found:,} bytes, and had {part.size:,} when bins were made of it",
            hint="split again",
        )
    return part.path


def _listed_in(manifest: Path) -> list[Path]:
    shards = read_table(manifest).select("path", "bytes", "modified_ns").collect().iter_rows()
    found = []
    for name, size, modified_ns in shards:
        check_same(Path(name), size, modified_ns)
        found.append(Path(name))
    if not found:
        raise InputError(f"{manifest} lists no shards")
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
    """What an artifact's statement, a manifest or a bin says of a shard; `rows` is None where it
    says nothing."""

    rows: int | None
    sha256: str


def stated(paths: Sequence[Path]) -> dict[Path, Stated]:
    """What artifacts, manifests and bins among `paths` say of their shards."""
    return {file: each for path in paths for file, each in _stated_in(path).items()}


def _stated_in(path: Path) -> dict[Path, Stated]:
    if path.is_file() and is_bin(path):
        whole = (part for part in read_bin(path).parts if part.start is None)
        return {part.path: Stated(part.rows, part.sha256) for part in whole}
    if path.is_file() and is_manifest(path):
        shards = read_table(path).select("path", "rows", "sha256").collect().iter_rows()
        return {Path(name): Stated(rows, sha256) for name, rows, sha256 in shards}
    if (record := read_statement(path)) is None:
        return {}
    counts = row_counts(record)
    return {
        path / each["name"]: Stated(counts.get(each["name"]), each["digest"]["sha256"])
        for each in record["subject"]
    }


class Piece(NamedTuple):
    """A shard, or where `rows` is given so many rows of one after `start` others; `skip` is where
    its reading may begin."""

    file: Path
    stated: Stated | None = None
    start: int = 0
    rows: int | None = None
    skip: Skip | None = None


def pieces(path: Path) -> list[Piece]:
    """What is to be read of which shards, in order.

    Raises:
        InputError: as `shard_files`.
    """
    if path.is_file() and is_bin(path):
        return [
            Piece(_checked(part), Stated(part.rows, part.sha256))
            if part.start is None
            else Piece(_checked(part), None, part.start, part.rows, part.skip)
            for part in read_bin(path).parts
        ]
    known = stated([path])
    return [Piece(file, known.get(file)) for file in shard_files(path)]


def check_once(found: Collection[Piece]) -> None:
    """Refuse rows that are in two pieces, whatever ways lead to their file. Two links to one file
    are two files.

    Raises:
        InputError: there are some.
    """
    inodes = [(each.st_dev, each.st_ino) for each in (piece.file.stat() for piece in found)]
    times = Counter(inodes)
    spans = sorted(
        (os.path.realpath(file), start, math.inf if rows is None else start + rows)
        for (file, _, start, rows, _), inode in zip(found, inodes, strict=True)
        if times[inode] > 1
    )
    for (file, _, end), (other, start, _) in pairwise(spans):
        if file == other and start < end:
            raise InputError(f"{file} is given twice", hint="give every shard once")


def check_stated(file: Path, stated: Stated | None, rows: int, sha256: str | None = None) -> None:
    """Raise `InputError` where what was read of a shard is not what is stated of it.

    A stream of several gzip members or zstandard frames that was cut between two of them looks
    complete: only who knows the number of rows can tell.
    """
    if stated is None:
        return
    if stated.rows not in (None, rows):
        raise InputError(
            f"{file} has {rows:,} rows, and is said to have {stated.rows:,}",
            hint=_CHANGED,
        )
    if sha256 is not None and sha256 != stated.sha256:
        raise InputError(
            f"{file} is not what it is said to be: sha256 {stated.sha256[:12]} then, "
            f"{sha256[:12]} now",
            hint=_CHANGED,
        )


_CHANGED = (
    "it was cut or changed: make what says so (an artifact, a manifest, a bin) again, or give the "
    "file by its name"
)
