"""The rows of a Parquet shard, some at a time.

For what looks at rows from Python. The filter itself never comes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subl.errors import InputError

if TYPE_CHECKING:
    import polars

_BATCH_ROWS = 4096


def read_frames(file: Path, columns: Sequence[str] | None = None) -> Iterator[polars.DataFrame]:
    """Frames of at most 4096 rows, in order, with those of the columns that there are.

    Raises:
        InputError: the file cannot be read.
    """
    import polars

    try:
        rows = polars.scan_parquet(file, glob=False)
        if columns is not None:
            known = rows.collect_schema()
            rows = rows.select([name for name in columns if name in known])
        yield from rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
