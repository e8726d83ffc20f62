"""A manifest as a file: a Parquet table with one row a shard.

Its name ends in `.manifest.parquet`. Paths in it are relative to its folder, so that a data set
moves with its manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import written_whole
from subl.errors import InputError, OutputError
from subl.shards.format import MANIFEST
from subl.shards.parquet import reading

if TYPE_CHECKING:
    import polars

_FORMAT = ("subl.manifest", "1")
"""In the metadata of the file: another table of such a name is none."""

_GROUP = 50_000
"""Shards to a row group: who reads a manifest row by row holds so many."""


def is_manifest(path: Path) -> bool:
    """Whether a path is that of a manifest, by its name."""
    return path.name.lower().endswith(MANIFEST)


def schema() -> polars.Schema:
    """The columns of a manifest."""
    import polars

    histogram = polars.List(polars.Struct({"length": polars.Int64, "rows": polars.Int64}))
    column: dict[str, Any] = {
        "name": polars.String,
        "kind": polars.String,
        "rows": polars.Int64,
        "nulls": polars.Int64,
        "lengths": histogram,
    }
    mark = {"rows": polars.Int64, "lines": polars.Int64, "bytes": polars.Int64}
    return polars.Schema(
        {
            "path": polars.String(),
            "name": polars.String(),
            "format": polars.String(),
            "compression": polars.String(),
            "rows": polars.Int64(),
            "bytes": polars.Int64(),
            "content_bytes": polars.Int64(),
            "sha256": polars.String(),
            "first_id": polars.String(),
            "last_id": polars.String(),
            "columns": polars.List(polars.Struct(column)),
            "lengths": histogram,
            "unreadable": polars.Int64(),
            "first_unreadable": polars.String(),
            "is_exact": polars.Boolean(),
            "marks": polars.List(polars.Struct(mark)),
            "made_by": polars.String(),
            "modified_ns": polars.Int64(),
            "identity": polars.String(),
        }
    )


def read_table(file: Path) -> polars.LazyFrame:
    """The manifest in a file; its paths are those from here.

    Raises:
        InputError: there is none, or it is no manifest.
    """
    import polars

    with reading(file):
        if polars.read_parquet_metadata(file).get(_FORMAT[0]) != _FORMAT[1]:
            raise InputError(
                f"{file} is no manifest that this version of subl reads",
                hint=f"subl shards inspect DATA -o NAME{MANIFEST} makes one",
            )
        folder = "" if str(file.parent) == "." else f"{file.parent}/"
        path = polars.lit(folder) + polars.col("path")
        is_absolute = polars.col("path").str.starts_with("/")
        return polars.scan_parquet(file, glob=False).with_columns(
            polars.when(is_absolute).then("path").otherwise(path).alias("path")
        )


def write_table(manifest: polars.DataFrame, file: Path) -> None:
    """Put a manifest into a file, in place of what is there.

    Raises:
        OutputError: it cannot be written.
    """
    import polars

    folder = os.path.realpath(file.parent)
    paths = relative(manifest.get_column("path"), folder)
    manifest = manifest.with_columns(polars.Series("path", paths, polars.String))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as target:
            manifest.write_parquet(target, row_group_size=_GROUP, metadata=dict([_FORMAT]))
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}") from error


def columns_of(manifest: polars.LazyFrame) -> polars.LazyFrame:
    """A row for each column of each shard, beside the other columns of the manifest."""
    return manifest.explode("columns").unnest("columns").drop_nulls("name")


def has_column(name: str) -> polars.Expr:
    """Whether a shard of a manifest has a column."""
    import polars

    is_it = polars.element().struct["name"] == name
    return polars.col("columns").list.eval(is_it).list.any()


def relative(paths: Iterable[str], folder: str) -> list[str]:
    """Paths from a folder, which has no links on its way, as the file system goes them."""

    @cache
    def to(parent: str) -> str:  # many shards are in one folder
        return os.path.relpath(os.path.realpath(parent), folder)

    parted = map(os.path.split, paths)
    return [os.path.normpath(f"{to(parent or '.')}/{name}") for parent, name in parted]


_AGAIN = f"subl shards inspect DATA -o NAME{MANIFEST} looks at what has changed"


def check_same(
    path: Path, size: int, modified_ns: int, *, what: str = "its manifest was", hint: str = _AGAIN
) -> None:
    """Refuse a shard that is not the file that its manifest is about, by size and time.

    Raises:
        InputError: it is not, or it is gone.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if (found.st_size, found.st_mtime_ns) != (size, modified_ns):
        raise InputError(f"{path} has changed since {what} made", hint=hint)
