"""A data set as files: JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) or Parquet."""

from subl.shards.format import SUFFIXES, check_regular, format_of
from subl.shards.lines import open_lines
from subl.shards.rows import (
    Row,
    check_digest,
    check_rows,
    read_rows,
    shard_files,
    stated_digests,
    stated_rows,
)

__all__ = [
    "SUFFIXES",
    "Row",
    "check_digest",
    "check_regular",
    "check_rows",
    "format_of",
    "open_lines",
    "read_rows",
    "shard_files",
    "stated_digests",
    "stated_rows",
]
