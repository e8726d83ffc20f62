"""A bin: the shards, or rows of shards, that one of several workers takes.

`subl shards split` writes a file for each, whose name ends in `.bin.json`. It stands for its rows
wherever rows are taken, so a task of a job array is the command that a person would type:

    subl filter rules.toml bins/00003.bin.json -o out/00003

    {
      "format": 1,
      "bin": 3,                      this one, from 0
      "bins": 16,                    of so many
      "rows": 62500,                 of all parts together
      "bytes": 1048576,              uncompressed
      "parts": [
        {"path": "../data/a.jsonl",  from the folder of this file
         "size": 800000, "sha256": "…",                      of the file
         "rows": 50000, "bytes": 800000},
        {"path": "../data/b.jsonl", "size": 4000000, "sha256": "…", "rows": 12500, "bytes": 248576,
         "start": 21000,             rows of the shard before the first of these: it is cut
         "skip": {"rows": 20480, "lines": 20480, "bytes": 1048576}}  where to begin to look for it
      ]
    }
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from subl.errors import InputError

SUFFIX = ".bin.json"
FORMAT = 1

_Count = Annotated[int, Field(ge=0)]


class Skip(BaseModel):
    """A place in a plain file from which it can be read: what lies before it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    rows: _Count
    lines: _Count
    bytes: _Count


BEGIN = Skip(rows=0, lines=0, bytes=0)
"""Of a file."""


class Part(BaseModel):
    """A shard, or where `start` is given `rows` rows of one, after so many others; `path` is that
    from here."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    path: Path
    size: _Count
    sha256: str
    rows: _Count
    bytes: _Count
    start: _Count | None = None
    skip: Skip | None = None


class Bin(BaseModel):
    """What one worker takes: part by part, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    format: int = Field(ge=FORMAT, le=FORMAT)
    bin: _Count
    bins: _Count
    rows: _Count
    bytes: _Count
    parts: tuple[Part, ...] = Field(min_length=1)

    @property
    def is_whole(self) -> bool:
        """Whether all of its parts are whole shards."""
        return all(part.start is None for part in self.parts)


def is_bin(path: Path) -> bool:
    """Whether a path is that of a bin, by its name."""
    return path.name.lower().endswith(SUFFIX)


def read_bin(file: Path | str) -> Bin:
    """The bin in a file.

    Raises:
        InputError: there is none, or it is no bin.
    """
    file = Path(file)
    try:
        found = Bin.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{file} is no bin that this version of subl reads: {f'`{key}`: ' * bool(key)}"
            f"{first['msg']}",
            hint="subl shards split makes bins",
        ) from error
    # Without links on the way, `bins/../data` is `data`.
    is_plain = os.path.realpath(file.parent) == str(file.parent.absolute())
    parts = []
    for part in found.parts:
        path = str(file.parent / part.path)
        path = os.path.normpath(path) if is_plain else path
        parts.append(part.model_copy(update={"path": Path(path)}))
    return found.model_copy(update={"parts": tuple(parts)})


def bin_files(folder: Path | str) -> list[Path]:
    """The bins that `subl shards split` made in a folder, in order.

    Raises:
        InputError: there are none, or not all of them.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    if not files:
        raise InputError(f"{folder} has no bins", hint="subl shards split makes bins")
    if len(files) != (bins := read_bin(files[0]).bins):
        raise InputError(f"{folder} has {len(files):,} of {bins:,} bins", hint="split again")
    return files


def bin_name(number: int, bins: int) -> str:
    """What the file of a bin is called: numbers of a width, five digits at least."""
    return f"{number:0{max(5, len(str(bins - 1)))}}{SUFFIX}"


def bin_text(number: int, bins: int, parts: Sequence[Mapping[str, Any]]) -> str:
    """What the file of a bin says. A part has a line."""
    sums = {key: sum(part[key] for part in parts) for key in ("rows", "bytes")}
    head = json.dumps({"format": FORMAT, "bin": number, "bins": bins, **sums, "parts": []})
    lines = ",\n".join(json.dumps(part, ensure_ascii=False) for part in parts)
    return f"{head[:-2]}\n{lines}\n]}}\n"
