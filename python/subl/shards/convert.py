"""Other files of the same rows: another format, or fewer and larger ones.

Lines stay as they are, byte for byte, where lines are made of lines. In Parquet a column has a type
where each value comes back from it as it was spelled, and texts of JSON (`arrow.json`) where not;
in all files of a call the same.
A null there is null, or a row without the key: the latter in the columns that the metadata of the
file name (`parquet.ABSENT`), so that lines made of it have the keys that the first lines had. Where
a column has both, nulls are texts, too. What may change is white space within a row, the
order of its keys, and how a character is escaped; of duplicate keys the last one stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ByteSize, Field

from subl.artifact import Artifact, Made, StageSpec, build, written_whole
from subl.errors import InputError
from subl.progress import Progress, Report, silent
from subl.shards.columns import JSON, Kind, respells
from subl.shards.decode import texts
from subl.shards.frame import blocks, dtypes_of, kinds_of, scan_table
from subl.shards.lines import row_lines
from subl.shards.manifest import inspect
from subl.shards.names import distinct, inputs_of
from subl.shards.parquet import ABSENT, BATCH_ROWS, absent_of, read_frames
from subl.shards.spread import spread
from subl.shards.table import check_same, columns_of

if TYPE_CHECKING:
    import polars

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]

_GROUP_BYTES = 64 << 20
"""Of a row group, uncompressed: a thread that filters holds one at a time."""

_PART_CHARACTERS = 8 << 20
"""Of lines that are compressed together."""

_COMPRESSION: Mapping[str, Literal["uncompressed", "gzip", "zstd"]] = {
    "jsonl": "uncompressed",
    "jsonl.gz": "gzip",
    "jsonl.zst": "zstd",
}


class ConvertSpec(StageSpec):
    """What a data set is made into."""

    format_version: ClassVar = 1
    packages: ClassVar = ("polars",)

    to: Format = Field(description="what is written")


class MergeSpec(ConvertSpec):
    """What a data set is made into, and how large its files are to be."""

    rows: int | None = Field(None, gt=0, description="rows to a file, at most")
    bytes: Annotated[ByteSize, Field(gt=0)] | None = Field(
        None,
        description="bytes to a file, at most, uncompressed; a shard that is larger is a file of "
        "its own",
    )


def convert(
    spec: ConvertSpec,
    data: Sequence[Path],
    out: Path,
    *,
    jobs: int = 1,
    report: Report = silent,
) -> Artifact:
    """Make other files of the rows of `data`, in the artifact `out`: one of each shard, or with a
    `MergeSpec` one of several that follow each other. An interrupted call is gone on with.

    Raises:
        InputError: as `inspect`; or a row cannot be read, where it has to be: names file and line.
    """
    manifest = inspect(data, jobs=jobs, report=report)
    kind = "merge" if isinstance(spec, MergeSpec) else "convert"

    def work(folder: Path) -> Made:
        files = planned(spec, manifest)
        todo = [name for name in files if not (folder / name).exists()]
        columns = _columns(files.values()) if spec.to == "parquet" else {}
        tasks = [(folder / name, spec.to, files[name], columns) for name in todo]
        sizes = {name: int(shards.get_column("bytes").sum()) for name, shards in files.items()}
        total = sum(sizes.values())
        done = skipped = total - sum(sizes[name] for name in todo)
        for number, _ in spread(_make, tasks, [sizes[name] for name in todo], jobs):
            done += sizes[todo[number]]
            report(Progress(kind, done, total, "bytes", todo[number], skipped=skipped))
        rows = {name: int(shards.get_column("rows").sum()) for name, shards in files.items()}
        return Made({"rows": sum(rows.values()), "shards": list(files), "to": spec.to}, rows)

    return build(out, kind, spec, inputs_of(data), work)


def planned(spec: ConvertSpec, manifest: polars.LazyFrame) -> dict[str, polars.DataFrame]:
    """The shards that each file is made of, as rows of the manifest, by its name."""
    shards = manifest.collect()
    if not isinstance(spec, MergeSpec):
        names = [f"{_stem(name)}.{spec.to}" for name in shards.get_column("name")]
        parts = [shards.slice(number, 1) for number in range(len(shards))]
        return distinct(parts, names)
    most = {"rows": spec.rows, "content_bytes": spec.bytes}
    limits = {key: limit for key, limit in most.items() if limit is not None}
    starts, sums = [0], dict.fromkeys(limits, 0)
    for number, row in enumerate(shards.select(list(limits)).iter_rows(named=True)):
        if any(sums[key] and sums[key] + row[key] > limit for key, limit in limits.items()):
            starts.append(number)
            sums = dict.fromkeys(limits, 0)
        sums = {key: sums[key] + row[key] for key in limits}
    ends = [*starts[1:], len(shards)]
    return {
        f"part-{number:05}.{spec.to}": shards.slice(start, end - start)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    }


def _stem(name: str) -> str:
    """The name of a shard without what says how it is packed."""
    for suffix in (".parquet", ".gz", ".zst", ".zstd", ".jsonl"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name or "rows"


Columns = Mapping[str, tuple[Kind, "polars.DataType"]]
"""What all files have."""


def _make(file: Path, to: Format, shards: polars.DataFrame, columns: Columns) -> None:
    """Write the rows of shards into a file."""
    import polars

    expected = int(shards.get_column("rows").sum())
    if to != "parquet":
        with written_whole(file) as target:
            for lines in _lines(shards):
                # As a table without quotes, which Polars compresses: each one is a member or a
                # frame of its own.
                polars.DataFrame({"line": lines}, {"line": polars.String}).write_csv(
                    target, include_header=False, quote_style="never", compression=_COMPRESSION[to]
                )
        return
    if expected and not columns:
        scan_table(shards.lazy(), shard=None).collect()  # a row that cannot be read is the cause
        raise InputError(
            f"{shards.item(0, 'path')} has rows without any key, of which Parquet keeps nothing",
            hint="leave it out, or convert to lines",
        )
    kinds = {name: kind for name, (kind, _) in columns.items()}
    dtypes = {name: dtype for name, (_, dtype) in columns.items()}
    found = _counts([shards])
    absent = columns.keys() - found.filter(polars.col("rows") == expected).get_column("name")
    told = [name for name in absent if kinds[name] == JSON]
    size = int(shards.get_column("content_bytes").sum())
    with written_whole(file) as target:
        rows = scan_table(
            shards.lazy(), shard=None, row=None, kinds=kinds, dtypes=dtypes, told=told
        )
        rows.sink_parquet(
            target,
            row_group_size=max(1, expected * _GROUP_BYTES // max(size, _GROUP_BYTES)),
            metadata={ABSENT: json.dumps(sorted(absent))},
        )


def _columns(files: Collection[polars.DataFrame]) -> Columns:
    """Columns in which nothing is lost, for files of these shards: one of nulls alone has the type
    of nothing."""
    import polars

    whole = polars.concat(files).lazy()
    both = _counts(files).filter(
        (polars.col("rows") < polars.col("of")) & (polars.col("nulls") > 0)
    )
    mixed = set(both.get_column("name"))
    kinds = {
        name: JSON if name in mixed or respells(kind) else kind
        for name, kind in kinds_of(whole).items()
    }
    dtypes = dtypes_of(whole, kinds)
    return {
        name: (kind, polars.Null() if kind == "null" else dtypes[name])
        for name, kind in kinds.items()
    }


def _counts(files: Collection[polars.DataFrame]) -> polars.DataFrame:
    """For each column of each file, in how many `rows` `of` it the key is, and is null."""
    import polars

    numbers = [number for number, shards in enumerate(files) for _ in range(len(shards))]
    whole = polars.concat(files).select(
        polars.Series("file", numbers, polars.UInt32), polars.col("rows").alias("of"), "columns"
    )
    of = whole.group_by("file").agg(polars.col("of").sum()).lazy()
    each = columns_of(whole.lazy().drop("of"))
    sums = each.group_by("file", "name").agg(polars.col("rows", "nulls").sum())
    return sums.join(of, on="file").collect()


def _lines(shards: polars.DataFrame) -> Iterator[list[str]]:
    """All lines, in parts of some megabytes."""
    part, size = [], 0
    columns = ("path", "bytes", "modified_ns", "format", "rows")
    for path, file_bytes, modified_ns, packing, rows in shards.select(columns).iter_rows():
        file, found = Path(path), 0
        check_same(file, file_bytes, modified_ns)
        for lines in (_of_parquet if packing == "parquet" else _of_lines)(file):
            found += len(lines)
            part += lines
            size += sum(map(len, lines))
            if size >= _PART_CHARACTERS:
                yield part
                part, size = [], 0
        check_same(file, file_bytes, modified_ns)
        if found != rows:
            raise InputError(f"{file} has {found:,} rows, and is said to have {rows:,}")
    yield part


def _of_lines(file: Path) -> Iterator[list[str]]:
    """The lines that are rows, as they are."""
    number = 1
    for block in blocks(file):
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError as error:
            line = number + block[: error.start].count(b"\n")
            raise InputError(
                f"{file}, line {line}: it is not UTF-8 text: {error.reason}",
                hint="subl filter puts such rows aside",
            ) from error
        number += len(lines) - 1
        yield [line for line in lines if line.strip(" \t\r")]


def _of_parquet(file: Path) -> Iterator[list[str]]:
    """The rows as lines, without the keys that they did not have."""
    absent = sorted(absent_of(file))
    lines = (content.decode() for _, content in row_lines(file))
    if not absent:
        while batch := list(islice(lines, BATCH_ROWS)):
            yield batch
        return
    for frame in read_frames(file, absent):
        nulls = frame.select(column.is_null() for column in frame).iter_rows()
        yield [
            _without({name for name, is_null in zip(absent, row, strict=True) if is_null}, line)
            for row, line in zip(nulls, islice(lines, len(frame)), strict=True)
        ]


def _without(keys: Collection[str], line: str) -> str:
    """A row without some of its keys."""
    if not keys:
        return line
    pairs = (
        f"{json.dumps(key, ensure_ascii=False)}:{value}"
        for key, value in texts(line).items()
        if key not in keys
    )
    return f"{{{','.join(pairs)}}}"
