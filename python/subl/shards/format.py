"""What a shard is: by its first bytes, whatever it is called. The engine is the one that knows."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import subl_core

from subl.errors import InputError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""What shards are called."""

MANIFEST = ".manifest.parquet"
"""What a table of shards is called."""

_NAMES = (*SUFFIXES, ".jsonl.zstd")

# A shard that something packed which is not read. Notes about a shard, like `.jsonl.md5`, are none.
_PACKED = re.compile(
    r"(\.jsonl\.(7z|br|bz2|gzip|lz4|lzma|lzo|snappy|sz|xz|z|zip)"
    r"|\.parquet\.(7z|br|bz2|gz|gzip|lz4|lzma|lzo|snappy|sz|xz|z|zip|zst|zstd))$"
)

EXPECTED = f"give a file or a folder of files that end in {', '.join(SUFFIXES)}"

_CONVERT = "decompress or convert it: subl reads JSON lines (plain, gzip, zstandard) and Parquet"
_PIPE = "a pipe can be read once: `subl filter RULES - < PIPE` filters one, or write it to a file"


def format_of(file: Path) -> str:
    """The one of `SUFFIXES` that says what a file is.

    Raises:
        InputError: the file cannot be read, or is in a format that is not.
    """
    try:
        return subl_core.read_format(file)
    except subl_core.FormatError as error:
        raise InputError(str(error), hint=_CONVERT) from error
    except subl_core.ReadError as error:
        raise InputError(str(error), hint=EXPECTED) from error


def is_named_shard(name: str) -> bool:
    """Whether a file of a folder is one of its shards, by its name. A manifest of them is none."""
    name = name.lower()
    return name.endswith(_NAMES) and not name.startswith(".") and not name.endswith(MANIFEST)


def check_named(folder: Path, name: str) -> None:
    """Refuse a file of a folder that is a shard by its name, packed in a way that is not read.

    Raises:
        InputError: it is one.
    """
    found = _PACKED.search(name.lower())
    if found is not None and not name.startswith("."):
        raise InputError(
            f"{folder / name} looks like a shard, and files that end in {found[0]} are not read",
            hint=f"{_CONVERT}; or give the files to read one by one",
        )


def check_regular(path: Path) -> None:
    """Refuse what is there and neither a file nor a folder.

    Raises:
        InputError: it is a pipe, a device or a socket.
    """
    if str(path) == "-":
        raise InputError("`-` is stdin, which is not read here", hint=_PIPE)
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if stat.S_ISFIFO(mode):
        raise InputError(f"{path} is a pipe, and its rows are needed more than once", hint=_PIPE)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{path} is neither a file nor a folder", hint=EXPECTED)
