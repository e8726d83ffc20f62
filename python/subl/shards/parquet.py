"""The rows of a Parquet shard, some at a time.

For what looks at rows from Python. The filter itself never comes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import subl_core

from subl.errors import InputError

if TYPE_CHECKING:
    import polars

BATCH_ROWS = 4096
"""What is looked at from Python at a time."""


def read_frames(
    file: Path, columns: Sequence[str] | None = None, start: int = 0, count: int | None = None
) -> Iterator[polars.DataFrame]:
    """Frames of at most 4096 rows, in order, with those of the columns that there are; all rows, or
    some after so many others.

    Raises:
        InputError: the file cannot be read.
    """
    import polars

    with reading(file):
        rows = polars.scan_parquet(file, glob=False)
        if columns is not None:
            known = rows.collect_schema()
            rows = rows.select([name for name in columns if name in known])
        if start or count is not None:
            rows = rows.slice(start, count)
        yield from rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)


def schema_of(file: Path) -> polars.Schema:
    """The columns and their types.

    Raises:
        InputError: the file cannot be read.
    """
    import polars

    with reading(file):
        return polars.Schema(polars.read_parquet_schema(file))


ABSENT = "subl.absent"
"""The key, in the metadata of a file that subl has made of JSON lines, of the names of the columns
in which a null is a row without that key."""


def absent_of(file: Path) -> frozenset[str]:
    """The columns in which a null is a row without the key."""
    import polars

    with reading(file):
        return frozenset(json.loads(polars.read_parquet_metadata(file).get(ABSENT, "[]")))


def measured(file: Path) -> tuple[int, int]:
    """How many rows a file has, and how many bytes they are, uncompressed.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(file):
        return subl_core.measure_parquet(file)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """What goes wrong within is said of this file, as `InputError`."""
    import polars

    try:
        yield
    except subl_core.ReadError as error:
        raise InputError(str(error)) from error
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist") from error
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
