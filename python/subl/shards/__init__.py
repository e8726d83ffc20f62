"""A data set as files: JSON objects, a line each (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`)."""

from subl.shards.lines import open_lines
from subl.shards.rows import SUFFIXES, Row, read_rows, shard_files

__all__ = ["SUFFIXES", "Row", "open_lines", "read_rows", "shard_files"]
