"""The rows of a data set as one table of Polars, whatever its shards are packed in.

Polars reads what it reads right, which the manifest knows: columns of one kind, in files without
duplicate keys and halves of surrogate pairs. All other rows are read by Python, as the filter reads
them, so that a row is the same however one comes to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.progress import Report, silent
from subl.shards.columns import JSON, SCALARS, Kind, dtype_of, merged, respells, with_floats
from subl.shards.columns import read as read_kind
from subl.shards.decode import Decoder, texts
from subl.shards.lines import BLANK, BYTE_ORDER_MARK, open_lines, row_lines
from subl.shards.manifest import inspect
from subl.shards.parquet import BATCH_ROWS, absent_of, read_frames, schema_of
from subl.shards.table import check_same, columns_of

if TYPE_CHECKING:
    import polars

_BLOCK_BYTES = 4 << 20


def scan(
    data: Path | str | Sequence[Path | str],
    *,
    shard: str | None = "shard",
    row: str | None = "row",
    jobs: int = 1,
    report: Report = silent,
) -> polars.LazyFrame:
    """All rows of all shards, in order.

    A column is of the type that all its values have (`columns`); where they have none in common,
    it holds texts of JSON (`arrow.json`; `column.ext.storage()` has the texts). Null is a value
    that is null, or missing. Only a manifest spares a first look at all shards.

    Args:
        shard: what the column is called that names the file; None: there is none.
        row: what the column is called with the number of the line in it, from 1, as errors and
            rejects have it; of Parquet, of the row.
        jobs: processes that look at shards.

    Raises:
        InputError: as `inspect`; two columns have one name. When it runs: a shard is not what its
            manifest says, or has a row that cannot be read; names file and line.
    """
    paths = [data] if isinstance(data, Path | str) else data
    manifest = inspect(list(map(Path, paths)), jobs=jobs, report=report)
    return scan_table(manifest, shard=shard, row=row)


def scan_table(
    manifest: polars.LazyFrame,
    *,
    shard: str | None = "shard",
    row: str | None = "row",
    kinds: Mapping[str, Kind] | None = None,
    dtypes: Mapping[str, polars.DataType] | None = None,
    told: Collection[str] = (),
    skip: bool = False,
) -> polars.LazyFrame:
    """The same of a manifest.

    Args:
        kinds: of the columns to read, where they are known; `dtypes` their types.
        told: columns of texts of JSON in which a null is a text, too, and told from what is
            missing.
        skip: leave out rows that cannot be read, which the manifest has counted.
    """
    import polars
    from polars.io.plugins import register_io_source

    kinds = kinds_of(manifest) if kinds is None else kinds
    for name in (shard, row):
        if name in kinds:
            raise InputError(
                f"there is a column `{name}` in the data",
                hint='name the columns of places otherwise: scan(data, shard="file", row="line")',
            )
    schema = polars.Schema(
        {
            **({} if shard is None else {shard: polars.String()}),
            **({} if row is None else {row: polars.Int64()}),
            **(dtypes_of(manifest, kinds) if dtypes is None else dtypes),
        }
    )

    def frames(
        columns: list[str] | None,
        predicate: polars.Expr | None,
        most: int | None,
        _batch: int | None,
    ) -> Iterator[polars.DataFrame]:
        wanted = list(schema) if columns is None else columns
        left = most
        reader = _Reader(
            {name: schema[name] for name in wanted if name in kinds}, kinds, told, skip
        )
        for path, numbers, frame in reader.frames(manifest):
            if shard in wanted:
                frame = frame.with_columns(polars.lit(path).alias(str(shard)))
            if row in wanted:
                frame = frame.with_columns(polars.Series(str(row), numbers, polars.Int64))
            frame = frame.head(left).select(wanted) if left is not None else frame.select(wanted)
            left = None if left is None else left - len(frame)
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    return register_io_source(frames, schema=schema)


def kinds_of(manifest: polars.LazyFrame) -> dict[str, Kind]:
    """The kind of each column of all shards together."""
    import polars

    each = columns_of(manifest.select("columns"))
    found = (
        each.group_by("name", maintain_order=True)
        .agg(polars.col("kind").unique(maintain_order=True))
        .collect()
    )
    kinds: dict[str, Kind] = {}
    for name, several in found.iter_rows():
        kind: Kind = "null"
        for text in several:
            kind = merged(kind, read_kind(text))
        kinds[name] = kind
    return kinds


def dtypes_of(manifest: polars.LazyFrame, kinds: Mapping[str, Kind]) -> dict[str, polars.DataType]:
    """The types of columns of these kinds. Those that JSON does not have are in all shards the
    same but where there are nulls alone: the first one says which."""
    import polars

    columns = columns_of(manifest.select("path", "columns"))
    found: dict[str, polars.DataType] = {}
    for name, kind in kinds.items():
        if isinstance(kind, str) and kind not in SCALARS and kind != JSON:
            has_it = (polars.col("name") == name) & (polars.col("kind") == kind)
            first = columns.filter(has_it).select("path").head(1).collect().item()
            found[name] = schema_of(Path(first))[name]
        else:
            found[name] = dtype_of(kind)
    return found


Found = tuple[Sequence[int], "polars.DataFrame"]
"""Rows, with their numbers."""


@dataclass(frozen=True)
class _Reader:
    """Reads some columns of shards, by their types."""

    schema: Mapping[str, polars.DataType]
    kinds: Mapping[str, Kind]
    told: Collection[str]
    skip: bool

    def frames(self, manifest: polars.LazyFrame) -> Iterator[tuple[str, Sequence[int], Any]]:
        """Frames of all shards, in order, with the path and the numbers of the rows."""
        columns = ("path", "bytes", "modified_ns", "format", "is_exact", "columns")
        for shards in manifest.select(columns).collect_batches(maintain_order=True):
            for path, size, modified_ns, packing, is_exact, described in shards.iter_rows():
                file = Path(path)
                check_same(file, size, modified_ns)
                own = {each["name"]: read_kind(each["kind"]) for each in described}
                names = [name for name in self.schema if name in own]
                read = self._lines_of_python
                if packing == "parquet":
                    read = self._parquet
                elif is_exact:
                    read = self._lines_of_polars
                found = read(file, names, own)
                for numbers, frame in found:
                    missing = [name for name in self.schema if name not in own]
                    nulls = self._columns({name: [None] * len(numbers) for name in missing})
                    yield path, numbers, frame.with_columns(nulls)
                check_same(file, size, modified_ns)

    def _lines_of_polars(
        self, file: Path, names: Sequence[str], own: Mapping[str, Kind]
    ) -> Iterator[Found]:
        """Lines, of which Polars reads what has a type."""
        import polars

        apart = [name for name in names if self.kinds[name] == JSON]
        schema = {name: self.schema[name] for name in names if name not in apart}
        line = 1
        for block in blocks(file):
            try:
                frame = polars.read_ndjson(block, schema=schema)
            except polars.exceptions.PolarsError as error:
                raise InputError(f"cannot read {file} from line {line} on: {error}") from error
            if apart:
                lines = (each.strip(BLANK) for each in block.split(b"\n"))
                written = [texts(content.decode()) for content in lines if content]
                values = {name: self._texts(name, written) for name in apart}
                frame = frame.with_columns(self._columns(values))
            yield _numbers(block, line, len(frame)), frame
            line += block.count(b"\n")

    def _lines_of_python(
        self, file: Path, names: Sequence[str], own: Mapping[str, Kind]
    ) -> Iterator[Found]:
        """Lines of which Polars would read something else."""
        import polars

        decoder, lines = Decoder(), row_lines(file)
        apart = [name for name in names if self.kinds[name] == JSON]
        while batch := list(islice(lines, BATCH_ROWS)):
            read = []
            for number, content in batch:
                try:
                    read.append((number, decoder.row(content), content))
                except ValueError as error:
                    if not self.skip:
                        raise InputError(f"{file}, line {number}: {error}") from error
            written = [texts(content.decode()) for *_, content in read] if apart else []
            values = {
                name: self._texts(name, written)
                if name in apart
                else [row.get(name) for _, row, _ in read]
                for name in names
            }
            frame = polars.DataFrame(height=len(read)).with_columns(self._columns(values))
            yield [number for number, *_ in read], frame

    def _parquet(
        self, file: Path, names: Sequence[str], own: Mapping[str, Kind]
    ) -> Iterator[Found]:
        """Rows of Parquet."""
        import polars

        apart = [name for name in names if self.kinds[name] == JSON and own[name] != JSON]
        native = {name: self.schema[name] for name in names if name not in apart}
        told = [name for name in self.told if name in own and name not in absent_of(file)]
        lines, number = row_lines(file) if apart else iter(()), 1
        # Of no column there are no rows either.
        for frame in read_frames(file, list(native) or list(own)[:1]):
            height = len(frame)
            written = [texts(content.decode()) for _, content in islice(lines, height)]
            found = {name: frame.get_column(name) for name in native}
            for name, dtype in native.items():
                if name in told:
                    found[name] = found[name].ext.storage().fill_null("null").ext.to(dtype)
                elif frame.schema[name] != dtype:
                    column = _as(polars.col(name), frame.schema[name], dtype)
                    found[name] = frame.select(column.alias(name)).to_series()
            values = {name: self._texts(name, written, name in told) for name in apart}
            rows = polars.DataFrame(height=height)
            columns = [*found.values(), *self._columns(values)]
            yield range(number, number + height), rows.with_columns(columns)
            number += height

    def _texts(
        self, name: str, rows: Sequence[Mapping[str, str]], told: bool | None = None
    ) -> list[str | None]:
        """The texts of a column. A null is one of them where it is told from what is missing."""
        found = (row.get(name) for row in rows)
        if name in self.told if told is None else told:
            return list(found)
        return [None if text == "null" else text for text in found]

    def _columns(self, values: Mapping[str, Sequence[Any]]) -> list[polars.Series]:
        import polars

        columns = []
        for name, each in values.items():
            kind, dtype = self.kinds[name], self.schema[name]
            if kind == JSON:
                columns.append(polars.Series(name, each, polars.String).ext.to(dtype))
                continue
            if respells(kind):
                each = [with_floats(value, kind) for value in each]
            columns.append(polars.Series(name, each, dtype))
        return columns


def _as(column: polars.Expr, own: Any, dtype: Any) -> polars.Expr:
    """A column of one type as another of the same kind. A cast takes fields of structs in their
    order alone."""
    import polars

    if own == dtype:
        return column
    if own == polars.Null:
        return column.cast(dtype)
    if isinstance(dtype, polars.List):
        return column.list.eval(_as(polars.element(), own.inner, dtype.inner))
    if isinstance(dtype, polars.Struct):
        types = {field.name: field.dtype for field in own.fields}
        fields = [
            _as(column.struct.field(field.name), types[field.name], field.dtype)
            for field in dtype.fields
        ]
        return polars.when(column.is_not_null()).then(polars.struct(fields))
    return column.cast(dtype)


def blocks(file: Path) -> Iterator[bytes]:
    """The bytes of a file of lines, some whole lines at a time."""
    rest = b""
    with open_lines(file) as lines:
        rest = lines.read(_BLOCK_BYTES).removeprefix(BYTE_ORDER_MARK)
        while block := lines.read(_BLOCK_BYTES):
            whole = block.rfind(b"\n") + 1
            if whole:
                yield rest + block[:whole]
                rest = block[whole:]
            else:
                rest += block
    if rest:
        yield rest


def _numbers(block: bytes, first: int, height: int) -> Sequence[int]:
    """Of the lines of a block that are rows."""
    if block.count(b"\n") + (not block.endswith(b"\n")) == height:
        return range(first, first + height)
    lines = enumerate(block.split(b"\n"), start=first)
    return [number for number, line in lines if line.strip(BLANK)]
