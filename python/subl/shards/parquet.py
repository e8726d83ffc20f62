"""The rows of a Parquet shard, some at a time.

For what looks at rows from Python. The filter itself never comes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def count_rows(file: Path) -> int:
    """How many rows the file says it has."""
    import polars

    try:
        count: int = polars.scan_parquet(file, glob=False).select(polars.len()).collect().item()
    except (polars.exceptions.PolarsError, OSError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    return count


def json_line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON about which rules say the same: a null is a key that is not there.

    What JSON has no type for (times, decimals, binary data) becomes its text.
    """
    return json.dumps(_without_nulls(row), ensure_ascii=False, default=str).encode() + b"\n"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value if each is not None]
    return value
