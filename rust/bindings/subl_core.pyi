"""The native filter engine of subl: one shard from bytes to bytes.

A plan is JSON: `{"rules": [{"name": ..., "kind": ..., ...}], "max_line_bytes": 16777216,
"tag_field": "filter_tags"}`; the models in `subl.filter` write it. All functions release the GIL.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import final

__version__: str

class PlanError(ValueError):
    """A plan that cannot be compiled; the message names the rule, and the pattern if it is one."""

class FilterError(OSError):
    """A shard that cannot be filtered; the message names the file."""

class ReadError(FilterError):
    """The input is missing, unreadable, truncated or corrupt."""

class WriteError(FilterError):
    """An output cannot be created, written, synced or renamed."""

@final
class Plan:
    """Compiled rules, to be shared between threads."""

    def __new__(cls, json: str) -> Plan:
        """Compile a plan. Raises `PlanError`."""

    comparisons: int
    """How many rules compare rows; for these, all shards must be signed first."""

    def explain(self, line: bytes) -> str:
        """The verdict on one line as JSON: kept, tags, unreadable (reasons) and rules (name, kind,
        action, field, broken, reasons). A rule that compares rows is never broken here."""

@final
class Duplicates:
    """Which rows repeat an earlier one: decided once, when all shards are signed."""

    def __new__(
        cls,
        plan: Plan,
        files: Sequence[str],
        signatures: Sequence[Sequence[str | PathLike[str]]],
        threads: int = 1,
    ) -> Duplicates:
        """Decide about all shards, in the order in which earlier means earlier.

        Args:
            files: what the rejects call each shard.
            signatures: for each shard what `sign_shard` wrote.

        Raises:
            ReadError: signatures are corrupt, or of another plan.
            FilterError: more memory is needed than a rule allows.
        """

    def counts(self) -> list[int]:
        """How many rows repeat an earlier one, by rule that compares rows."""

def read_line(input: str | PathLike[str], number: int) -> bytes | None:
    """One line of a shard, from 0, with its terminator; None if there are fewer lines.

    Raises `ReadError`.
    """

def sign_shard(
    plan: Plan,
    input: str | PathLike[str],
    signatures: Sequence[str | PathLike[str]],
    *,
    threads: int = 1,
    progress: Callable[[int, int, int], object] | None = None,
) -> int:
    """The first pass over a shard for a plan that compares rows: a file for each such rule.

    Returns the number of lines. `progress` and errors as in `filter_shard`.
    """

def filter_shard(
    plan: Plan,
    input: str | PathLike[str],
    kept: str | PathLike[str],
    rejects: str | PathLike[str],
    *,
    journal: str | PathLike[str] | None = None,
    journal_seconds: float = 10.0,
    threads: int = 1,
    split_rows: int | None = None,
    split_bytes: int | None = None,
    duplicates: Duplicates | None = None,
    shard: int = 0,
    progress: Callable[[int, int, int], object] | None = None,
) -> str:
    """Filter the JSON lines of `input` into `kept` (byte-identical) and `rejects` (with reasons).

    File names ending in `.gz` and `.zst` are compressed. Both outputs are written to temporary
    names (`NAME.tmp`) and renamed when they are complete. With `split_rows` or `split_bytes`
    (uncompressed), kept rows go to `kept` with a number before its suffix: `NAME-00000.jsonl`.

    Every `journal_seconds` `journal` notes how far the work is. The same call with the same plan,
    input and outputs goes on from there, with the same bytes in the end; another caller must use
    another journal. `threads` changes nothing but the time.

    A plan that compares rows needs `duplicates`, in which this shard has the position `shard`.

    `progress(bytes_read, rows, kept)` is called once soon after the start and then about ten times
    a second, from any of the threads, with the bytes read from the file before decompression. What
    it raises stops the work and comes out of here; so does Ctrl-C.

    Returns:
        The statistics as JSON: rows_in, kept, rejected, unreadable, tagged, blank_lines, bytes_in,
        bytes_kept, rules (name, kind, hits, sole_hits, reasons) and unreadable_reasons.

    Raises:
        ReadError, WriteError: a file cannot be read (missing, truncated, corrupt) or written.
        FilterError: two of the three are the same file.
    """
