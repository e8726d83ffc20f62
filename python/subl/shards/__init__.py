"""A data set as files: JSON lines (`.jsonl`, `.jsonl.gz`, `.jsonl.zst`) or Parquet; and as tables.

`inspect` gives a table with a row for each shard, and `keep` has one in a file; `scan` gives all
rows as one table; `bins.read_bin` reads what one of several workers takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from subl.shards.format import SUFFIXES, check_regular, format_of
from subl.shards.lines import open_lines
from subl.shards.listing import Stated, check_stated, shard_files, stated
from subl.shards.rows import Line, Row, read_lines, read_objects, read_rows, text_of, turns_of

if TYPE_CHECKING:
    from subl.shards.frame import scan
    from subl.shards.manifest import inspect, keep

__all__ = [
    "SUFFIXES",
    "Line",
    "Row",
    "Stated",
    "check_regular",
    "check_stated",
    "format_of",
    "inspect",
    "keep",
    "open_lines",
    "read_lines",
    "read_objects",
    "read_rows",
    "scan",
    "shard_files",
    "stated",
    "text_of",
    "turns_of",
]


_MODULES = {"inspect": "manifest", "keep": "manifest", "scan": "frame"}


def __getattr__(name: str) -> Any:
    # Who reads rows needs nothing of it.
    if name in _MODULES:
        return getattr(import_module(f"subl.shards.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
