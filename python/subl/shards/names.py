"""What files that are made of shards are called.

A shard keeps the base name of its input, so the names that users gave decide. No two outputs may
get one name, not even on a file system that takes upper and lower case, or composed and decomposed
letters, for the same; and none may be hidden, for hidden files are no part of an artifact.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from subl.artifact import read_statement
from subl.errors import InputError
from subl.shards.format import format_of
from subl.shards.listing import Piece, check_once, shard_files
from subl.shards.table import is_manifest

Each = TypeVar("Each")


def name_shards(inputs: Sequence[Path], compression: str = "auto") -> dict[str, Path]:
    """The shards of all inputs by the name that they have in the output, in order.

    The engine compresses as the name ends; `compression` is that of `OutputSpec`.
    """
    paths = [shard for path in inputs for shard in shard_files(path)]
    if not paths:
        raise InputError(
            "no input", hint="give files, or folders of *.jsonl, *.jsonl.gz, *.jsonl.zst, *.parquet"
        )
    check_once(list(map(Piece, paths)))
    return distinct(paths, [_output_name(path, compression) for path in paths])


def name_inputs(inputs: Sequence[Path], *, in_order: bool) -> dict[str, Path]:
    """What the result is made of: artifacts, and the shards of all else. Other files in a folder
    are no inputs.

    The names are part of the artifact's key. Where the result depends on the order of the inputs
    (`in_order`), so do they.
    """
    paths = [
        found
        for path in inputs
        for found in ([path] if read_statement(path) is not None else shard_files(path))
    ]
    return distinct(paths, [path.name for path in paths], numbered=in_order and len(paths) > 1)


def inputs_of(data: Sequence[Path]) -> dict[str, Path]:
    """What is made of `data` in its order is made of: as `name_inputs`, but a manifest is an input
    itself, and not the shards in it."""
    manifests = [path for path in data if is_manifest(path)]
    others = [path for path in data if not is_manifest(path)]
    named = {f"manifest-{number}": path for number, path in enumerate(manifests)}
    return named | name_inputs(others, in_order=True)


def called(inputs: Sequence[Path]) -> dict[Path, Path]:
    """What rejects call the shards of artifacts: the artifact's name and the file in it. So what a
    run makes does not depend on where it is made. All other inputs are called as they were given.
    """
    artifacts = (path for path in inputs if path.is_dir() and read_statement(path) is not None)
    return {
        shard: Path(artifact.absolute().name, *shard.relative_to(artifact).parts)
        for artifact in artifacts
        for shard in shard_files(artifact)
    }


def distinct(
    paths: Sequence[Each], names: Sequence[str], *, numbered: bool = False
) -> dict[str, Each]:
    """Paths, or what is to be a file, by name; all names get their position before them where two
    could be one file's, or one is that of a hidden file."""
    alike = {unicodedata.normalize("NFC", name).casefold() for name in names}
    if numbered or len(alike) < len(names) or any(name.startswith(".") for name in names):
        width = len(str(len(paths) - 1))
        names = [f"{index:0{width}}-{name}" for index, name in enumerate(names)]
    return dict(zip(names, paths, strict=True))


def _output_name(path: Path, compression: str) -> str:
    """The name of the input; Parquet ends in `.parquet`, in any case, and nothing else does."""
    name = path.name
    is_named = name.lower().endswith(".parquet")
    if format_of(path) == ".parquet":
        return name if is_named else f"{name}.parquet"
    if is_named:
        name += ".jsonl"
    if compression == "auto":
        return name
    plain = re.sub(r"(\.(gz|zstd?))+$", "", name, flags=re.IGNORECASE) or "rows"
    if plain.lower().endswith(".parquet"):
        plain += ".jsonl"
    return plain if compression == "none" else f"{plain}.{compression}"
