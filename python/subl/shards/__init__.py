"""A data set as files: JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) or Parquet."""

from subl.shards.format import SUFFIXES, format_of
from subl.shards.lines import open_lines
from subl.shards.rows import Row, read_rows, shard_files

__all__ = ["SUFFIXES", "Row", "format_of", "open_lines", "read_rows", "shard_files"]
