"""The native filter engine of subl: one shard from bytes to bytes.

A plan is JSON: `{"rules": [{"name": ..., "kind": "numbers" | "regex" | "literal", ...}],
"max_line_bytes": 16777216}`; the models in `subl.filter` write it. All functions release the GIL.
"""

from collections.abc import Callable
from os import PathLike

__version__: str

class PlanError(ValueError):
    """A plan that cannot be compiled; the message names the rule, and the pattern if it is one."""

class FilterError(OSError):
    """A shard that cannot be filtered; the message names the file."""

class ReadError(FilterError):
    """The input is missing, unreadable, truncated or corrupt."""

class WriteError(FilterError):
    """An output cannot be created, written, synced or renamed."""

def filter_shard(
    plan_json: str,
    input: str | PathLike[str],
    kept: str | PathLike[str],
    rejects: str | PathLike[str],
    progress: Callable[[int, int, int], object] | None = None,
) -> str:
    """Filter the JSON lines of `input` into `kept` (byte-identical) and `rejects` (with reasons).

    File names ending in `.gz` and `.zst` are compressed. Both outputs are written to temporary
    names and renamed when they are complete. `progress(bytes_read, rows, kept)` is called once soon
    after the start and then about ten times a second, with the bytes read from the file before
    decompression. What it raises stops the work, removes the temporary files and comes out of here;
    so does Ctrl-C.

    Returns:
        The statistics as JSON: rows_in, kept, rejected, unreadable, blank_lines, bytes_in,
        bytes_kept, rules (name, kind, hits, sole_hits, reasons) and unreadable_reasons.

    Raises:
        PlanError: the plan cannot be compiled.
        ReadError, WriteError: a file cannot be read (missing, truncated, corrupt) or written.
        FilterError: two of the three are the same file.
    """

def check_plan(plan_json: str) -> None:
    """Compile a plan and throw it away. Raises `PlanError`."""

def explain(plan_json: str, line: bytes) -> str:
    """The verdict on one line as JSON: kept, unreadable (reasons) and rules (broken, reasons)."""
