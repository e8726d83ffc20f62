"""A data set as files: JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) or Parquet."""

from subl.shards.format import SUFFIXES, check_regular, format_of
from subl.shards.lines import open_lines
from subl.shards.rows import (
    Line,
    Row,
    Stated,
    check_stated,
    read_lines,
    read_objects,
    read_rows,
    shard_files,
    stated,
    text_of,
    turns_of,
)

__all__ = [
    "SUFFIXES",
    "Line",
    "Row",
    "Stated",
    "check_regular",
    "check_stated",
    "format_of",
    "open_lines",
    "read_lines",
    "read_objects",
    "read_rows",
    "shard_files",
    "stated",
    "text_of",
    "turns_of",
]
