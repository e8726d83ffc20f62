"""The native filter engine of subl: shards from bytes to bytes, and batches in memory.

A plan is JSON: `{"rules": [{"name": ..., "kind": ..., ...}], "max_line_bytes": 16777216,
"tag_field": "filter_tags"}`; the models in `subl.filter` write it. All functions release the GIL.
"""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, Protocol, final

__version__: str

class ArrowStream(Protocol):
    """Rows in any library that speaks Arrow: a frame of Polars, a table of pyarrow, and so on."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class PlanError(ValueError):
    """A plan that cannot be compiled; the message names the rule, and the pattern if it is one."""

class FilterError(OSError):
    """A shard that cannot be filtered; the message names the file."""

class ReadError(FilterError):
    """The input is missing, unreadable, truncated or corrupt."""

class FormatError(ReadError):
    """The input is in a format that is not read; the message says which."""

class WriteError(FilterError):
    """An output cannot be created, written, synced or renamed."""

@final
class Plan:
    """Compiled rules, to be shared between threads."""

    def __new__(cls, json: str) -> Plan:
        """Compile a plan. Raises `PlanError`."""

    comparisons: int
    """How many rules compare rows; for these, all shards must be signed first."""

    remarks: list[list[str]]
    """By rule: what to know about it before relying on it."""

    def explain(self, line: bytes, *, first: bool = True) -> str:
        """The verdict on one line as JSON: kept, tags, unreadable (reasons), values (texts by
        field) and rules (name, kind, action, field, broken, reasons). Where other rows decide,
        `broken` is null. The first line of a file may begin with a byte-order mark."""

    def explain_parquet(self, input: str | PathLike[str], number: int) -> str | None:
        """The verdict on one row of a Parquet file, from 0; None if there are fewer rows.

        Raises `ReadError`, or `FilterError` if the file has a column named like `tag_field`.
        """

    @property
    def columns(self) -> list[str]:
        """The top-level keys or columns that the rules look at, or into."""

    def match_batch(self, data: ArrowStream, *, reasons: bool = False) -> Matches:
        """Match rows that are in memory; nothing is copied and nothing is written.

        `data` is a stream of structs (a table). A null is a missing value: in a list it is passed
        over, and a row with nothing else where a rule looks is unreadable, and not kept. Columns of
        the type `arrow.json` hold what their texts say. A column named like `tag_field` is ignored.

        Raises:
            TypeError: `data` is no Arrow stream, or not one of structs.
            PlanError: the plan compares rows.
            ValueError: the stream was consumed before, or its producer failed.
        """

    def match_rows(self, rows: Iterable[Any], *, reasons: bool = False) -> Matches:
        """Match rows that are mappings, as if each were a line of JSON.

        Sequences are lists, and so are arrays of numpy that can hold texts. Numbers of any size are
        numbers. What JSON has no type for is an object without keys. Half of a surrogate pair
        anywhere in a row, or more than 128 levels, makes it unreadable.

        Raises:
            TypeError: `rows` is not iterable.
            PlanError: the plan compares rows.
        """

@final
class Duplicates:
    """Which rows repeat an earlier one: decided once, when all shards are signed."""

    def __new__(
        cls,
        plan: Plan,
        files: Sequence[str | PathLike[str]],
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

def count_rows(input: str | PathLike[str]) -> int:
    """How many rows a shard has: lines that are not blank, or what Parquet says.

    Raises `ReadError`.
    """

def measure_parquet(input: str | PathLike[str]) -> tuple[int, int]:
    """How many rows a Parquet file has, and how many bytes they are, uncompressed.

    Raises `ReadError`.
    """

def part_name(name: str, part: int) -> str:
    """What a part of the file `name` is called, by its number from 0: `rows-00000.jsonl`."""

def take_parquet_rows(
    input: str | PathLike[str], rows: Sequence[int], output: str | PathLike[str]
) -> int:
    """Write the rows with these numbers, from 0 and ascending, into a Parquet file of the same
    schema and types. Returns the bytes that were read.

    Raises `ReadError` or `WriteError`.
    """

@final
class ParquetLines:
    """The rows of a Parquet file as lines of JSON, some at a time, with how many they are.

    What JSON has no type for is a text: binary data in hexadecimal digits, times in ISO 8601.
    Numbers that are not finite are null; a map is a list of objects with `key` and `value`.
    Raises `ReadError`.
    """

    def __new__(cls, input: str | PathLike[str]) -> ParquetLines: ...
    def __iter__(self) -> ParquetLines: ...
    def __next__(self) -> tuple[bytes, int]: ...

@final
class Lines:
    """The uncompressed bytes of a shard of lines, or of stdin where `input` is `-`."""

    def __new__(cls, input: str | PathLike[str]) -> Lines:
        """Open it. Raises `ReadError`."""

    def read(self) -> bytes:
        """The next of them, a megabyte or so; none at the end. Raises `ReadError`."""

    @property
    def bytes_read(self) -> int:
        """How much of the file has been read, before decompression."""

def read_format(input: str | PathLike[str]) -> str:
    """What a file is, by its first bytes: `.jsonl`, `.jsonl.gz`, `.jsonl.zst` or `.parquet`.

    Raises `ReadError`; `FormatError` where it is something else.
    """

def check_shard(plan: Plan, input: str | PathLike[str], *, split_bytes: int | None = None) -> None:
    """Look at the beginning of a shard. Raises what `filter_shard` would raise there."""

def filter_stream(
    plan: Plan,
    *,
    rejects: str | PathLike[str] | None = None,
    threads: int = 1,
    progress: Callable[[int, int, int, int], object] | None = None,
) -> str:
    """Filter the lines of stdin (plain, gzip or zstandard, by their first bytes) to stdout.

    A kept row is written as soon as those before it are decided; `rejects` gets the others, if
    given. Both are written as the rows come. `progress` and the result as in `filter_shard`.

    Raises:
        BrokenPipeError: nobody reads stdout any more.
        ReadError, WriteError: a stream cannot be read or written.
        FilterError: two of the three are the same file, or the plan compares rows.
    """

def sign_shard(
    plan: Plan,
    input: str | PathLike[str],
    signatures: Sequence[str | PathLike[str]],
    making: str | PathLike[str],
    *,
    threads: int = 1,
    progress: Callable[[int, int, int, int], object] | None = None,
) -> int:
    """The first pass over a shard for a plan that compares rows: a file for each such rule, made in
    the folder `making`, in which nothing else is put.

    Returns the number of lines. `progress` and errors as in `filter_shard`.
    """

@final
class Matches:
    """A row for each row of the data, as an Arrow stream: kept (bool), broken (uint64: bit `i` for
    rule `i`, 0 if the row cannot be read), tags (list of strings: the `tag` rules that a kept row
    breaks), and if they were asked for reasons (string or null: the JSON array of the rejects)."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> object: ...
    def __len__(self) -> int: ...

def filter_shard(
    plan: Plan,
    input: str | PathLike[str],
    kept: str | PathLike[str],
    rejects: str | PathLike[str],
    *,
    work: str | PathLike[str] | None = None,
    journal_seconds: float = 10.0,
    threads: int = 1,
    split_rows: int | None = None,
    split_bytes: int | None = None,
    duplicates: Duplicates | None = None,
    shard: int = 0,
    progress: Callable[[int, int, int, int], object] | None = None,
    called: str | PathLike[str] | None = None,
    digests: bool = True,
) -> str:
    """Filter the rows of `input` into `kept` (unchanged) and `rejects` (with reasons), which call
    the input by its path, or what it is `called`.

    The first bytes of `input` say what it is. Of Parquet, the names of both outputs end in
    `.parquet`; of lines they do not, and are compressed where a name ends in `.gz` or `.zst`.
    Both outputs are made in the folder `work`, in which nothing else is put, and moved to their
    places when they are complete. With `split_rows` or `split_bytes` (uncompressed), kept rows go
    to `kept` with a number before its suffix: `NAME-00000.jsonl`.

    Of Parquet, kept rows keep schema, metadata, codecs and row groups; row groups that lose no row
    are copied as they are. Tags are a column of lists. Rejects have the columns file, line (of the
    row, from 1), reasons (JSON) and row (a struct). A null is a missing field, `max_line_bytes`
    does not apply, bytes are those of the column chunks, and neither `split_bytes` nor a journal
    is possible: an interrupted shard starts again. A thread holds a row group at a time.

    Every `journal_seconds` a file in `work` notes how far the work is. The same call with the same
    plan, input and outputs goes on from there, with the same bytes in the end. Calls for outputs of
    different names may share the folder. Without it, nothing is left of work that ends early.
    `threads` changes nothing but the time.

    `digests`: sha256 of the three files is computed while their bytes pass. It takes as long as
    most rules; what is only tried out can do without.

    A plan that compares rows needs `duplicates`, in which this shard has the position `shard`.

    `progress(bytes_read, rows, kept, skipped)` is called once soon after the start and then about
    ten times a second, from any of the threads, with the bytes read from the file before
    decompression, and how many of them an earlier call had worked on. What it raises stops the work
    and comes out of here; so does Ctrl-C.

    Returns:
        The statistics as JSON: rows_in, kept, rejected, unreadable, tagged, blank_lines, bytes_in,
        bytes_kept, parts (kept rows by file), sha256 (hex, of the files as they are on the disk:
        input, kept by part, rejects; only with `digests`), rules (name, kind, hits, sole_hits,
        reasons) and unreadable_reasons.

    Raises:
        ReadError, WriteError: a file cannot be read (missing, truncated, corrupt) or written.
        FilterError: two of the three are the same file, or the plan or the outputs do not fit the
            input (only one of them is Parquet, or it has a column named like `tag_field`).
    """
