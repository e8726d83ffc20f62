"""A data set as files: JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) or Parquet."""

from subl.shards.lines import SUFFIXES, open_lines
from subl.shards.rows import Row, read_rows, shard_files

__all__ = ["SUFFIXES", "Row", "open_lines", "read_rows", "shard_files"]
