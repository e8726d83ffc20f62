"""One look at a shard: what a manifest says of it.

Its bytes are read for the digest, and its rows by Python, each once. Rows that the filter would
reject as unreadable are counted, and the first of them is named: whether that is an error is up to
who reads the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subl.artifact import Reading, input_digest
from subl.shards.columns import EXACT, JSON, Kind, kind_of, kind_of_dtype, merged
from subl.shards.columns import written as written_kind
from subl.shards.decode import Decoder
from subl.shards.format import format_of
from subl.shards.lines import BLANK, BYTE_ORDER_MARK, open_lines
from subl.shards.listing import Stated, check_stated
from subl.shards.parquet import absent_of, measured, read_frames, schema_of

_MARK_BYTES = 1 << 20
"""How far apart the places are from which a plain file can be read on."""

_EXACT_BITS = 6
_EXACT = (-EXACT, EXACT)

Record = dict[str, Any]
"""What a manifest says of a shard, by the names of its columns."""


def look(path: Path, stated: Stated | None = None) -> Record:
    """Read a shard.

    Args:
        stated: what the statement of its artifact says of it.

    Raises:
        InputError: it is missing, truncated, corrupt, not what is stated of it, or changed while it
            was read.
    """
    reading = Reading(path)
    digest = input_digest(path)
    packing = format_of(path)
    record = _parquet(path) if packing == ".parquet" else _lines(path, packing)
    check_stated(path, stated, record["rows"], digest)
    identity = reading.came_to(digest)
    return {
        **record,
        "bytes": reading.identity.size,
        "modified_ns": reading.identity.modified_ns,
        "sha256": digest,
        "identity": None if identity is None else "-".join(map(str, identity)),
    }


@dataclass
class _Column:
    """In how many rows a key is, as what, and how long its texts are."""

    kind: Kind = "null"
    rows: int = 0
    nulls: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    scalars: set[str] = field(default_factory=set)

    def add(self, value: Any) -> None:
        self.rows += 1
        if value is None:
            self.nulls += 1
            return
        if type(value) is str:  # a number is one, too, where it is kept as it is spelled
            self.lengths[len(value)] += 1
        kind = kind_of(value)
        if isinstance(kind, str):
            if kind in self.scalars:
                return
            self.scalars.add(kind)
        if self.kind != kind:
            self.kind = merged(self.kind, kind)

    def described(self, name: str) -> Record:
        return {
            "name": name,
            "kind": written_kind(self.kind),
            "rows": self.rows,
            "nulls": self.nulls,
            "lengths": histogram(self.lengths),
        }


def _lines(path: Path, packing: str) -> Record:
    columns: dict[str, _Column] = {}
    lengths: Counter[int] = Counter()
    rows = unreadable = at = 0
    first_unreadable: str | None = None
    ids: list[Any] = []
    marks: list[Record] = []
    decoder = Decoder()
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            begins, at = at, at + len(line)
            content = (line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line).strip(BLANK)
            if not content:
                continue
            if packing == ".jsonl" and begins >= _MARK_BYTES * (len(marks) + 1):
                marks.append({"rows": rows, "lines": number - 1, "bytes": begins})
            rows += 1
            lengths[len(content)] += 1
            try:
                row = decoder.row(content)
            except ValueError as error:
                unreadable += 1
                first_unreadable = first_unreadable or f"line {number}: {error}"
                continue
            for name, value in row.items():
                if (column := columns.get(name)) is None:
                    column = columns[name] = _Column()
                column.add(value)
            ids[1:] = [row.get("id")]
    return {
        "format": "jsonl",
        "compression": packing.removeprefix(".jsonl").removeprefix(".") or "none",
        "rows": rows,
        "content_bytes": at,
        **_ends(ids),
        "columns": [column.described(name) for name, column in columns.items()],
        "lengths": histogram(lengths),
        "unreadable": unreadable,
        "first_unreadable": first_unreadable,
        "is_exact": decoder.is_exact and not unreadable,
        "marks": marks,
    }


def _parquet(path: Path) -> Record:
    import polars

    schema, absent = schema_of(path), absent_of(path)
    columns = {name: _Column(kind_of_dtype(dtype)) for name, dtype in schema.items()}
    for column in columns.values():
        column.kind = "int" if column.kind == "long" else column.kind  # until there is a larger one
    ids: list[Any] = []
    for frame in read_frames(path):
        for name, column in columns.items():
            values = frame.get_column(name)
            missing = values.null_count()
            if column.kind == "int" and not values.cast(polars.Int64).is_between(*_EXACT).all():
                column.kind = "long"
            column.rows += len(values)
            if name in absent:
                column.rows -= missing
                if column.kind == JSON:
                    column.nulls += int((values.ext.storage() == "null").sum())
            else:
                column.nulls += missing
            if column.kind == "string":
                lengths = values.drop_nulls().str.len_chars().value_counts()
                column.lengths.update(dict(lengths.iter_rows()))
        if "id" in columns and len(frame):
            found = frame.get_column("id")
            ids = [ids[0] if ids else found[0], found[-1]]
    with open_lines(path) as lines:
        rows_lengths = Counter(len(line) - 1 for line in lines)
    rows, size = measured(path)
    return {
        "format": "parquet",
        "compression": None,
        "rows": rows,
        "content_bytes": size,
        **_ends(ids),
        "columns": [column.described(name) for name, column in columns.items()],
        "lengths": histogram(rows_lengths),
        "unreadable": 0,
        "first_unreadable": None,
        "is_exact": True,
        "marks": [],
    }


def _ends(ids: Sequence[Any]) -> Record:
    """The first and the last id."""
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {
        "first_id": None if first is None else str(first),
        "last_id": None if last is None else str(last),
    }


def histogram(lengths: Mapping[int, int]) -> list[Record]:
    """How many rows have which length: exact below 64, and else rounded down by 3 % at most, so
    that a shard's is small and those of all shards can be added up."""
    found: Counter[int] = Counter()
    for length, rows in lengths.items():
        shift = max(0, length.bit_length() - _EXACT_BITS)
        found[length >> shift << shift] += rows
    return [{"length": length, "rows": found[length]} for length in sorted(found)]
