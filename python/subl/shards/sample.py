"""Some rows of a data set, each as likely as any other, without reading all where that is possible.

How many rows there are is known of Parquet, of artifacts and from a manifest; other files are
counted. Of Parquet the row groups are read in which a row was drawn; of a plain file that a
manifest has marks of, a megabyte for each row; of all others what lies before the last row.
"""

from __future__ import annotations

import itertools
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import ClassVar

import subl_core
from pydantic import Field

from subl.artifact import Artifact, Made, StageSpec, build, written_whole
from subl.errors import InputError
from subl.progress import Progress, Report, silent
from subl.shards.bins import BEGIN, Skip
from subl.shards.format import format_of
from subl.shards.lines import row_lines
from subl.shards.listing import Piece, check_once, pieces
from subl.shards.names import inputs_of
from subl.shards.parquet import reading
from subl.shards.table import is_manifest, read_table

_FILE = "sample.jsonl"


class SampleSpec(StageSpec):
    """Which rows are drawn."""

    format_version: ClassVar = 1
    packages: ClassVar = ()

    rows: int = Field(gt=0, description="how many, each once at most")
    seed: int = Field(0, ge=0, description="of the draw")


def write_sample(
    spec: SampleSpec, data: Sequence[Path], out: Path, *, report: Report = silent
) -> Artifact:
    """Write the rows of a sample into the artifact `out`, as lines of JSON.

    Raises:
        InputError: as `sample`.
    """

    def work(folder: Path) -> Made:
        with written_whole(folder / _FILE) as file:
            file.writelines(row + b"\n" for row in sample(spec, data, report=report))
        return Made({"rows": spec.rows, "shards": [_FILE]}, {_FILE: spec.rows})

    return build(out, "sample", spec, inputs_of(data), work)


def sample(spec: SampleSpec, data: Sequence[Path], *, report: Report = silent) -> Iterator[bytes]:
    """The rows, in the order in which they are in `data`: lines of JSON as they are written (of
    Parquet as `open_lines` writes them), without line feeds. Rows that cannot be read are drawn as
    others are.

    Raises:
        InputError: there are fewer rows, or a shard is given twice, or cannot be read.
    """
    shards = [
        (piece, marks.get(piece.file, []))
        for path in data
        for marks in [_marks(path)]
        for piece in pieces(path)
    ]
    check_once([piece for piece, _ in shards])
    counts = [_count(piece) for piece, _ in shards]
    ends = list(accumulate(counts))
    total = ends[-1] if ends else 0
    if spec.rows > total:
        raise InputError(f"{spec.rows:,} rows are to be drawn, and there are {total:,}")
    drawn = sorted(Random(spec.seed).sample(range(total), spec.rows))
    done = 0
    for shard, places in itertools.groupby(drawn, lambda place: bisect_right(ends, place)):
        (piece, marks), count = shards[shard], counts[shard]
        before = ends[shard] - count - piece.start
        rows = [place - before for place in places]
        take = _of_parquet if format_of(piece.file) == ".parquet" else _of_lines
        found = list(take(piece.file, rows, marks))
        if len(found) < len(rows):
            raise InputError(f"{piece.file} has fewer rows than it is said to have ({count:,})")
        yield from found
        done += len(rows)
        report(Progress("sample", done, spec.rows, "rows"))


def _marks(path: Path) -> dict[Path, list[Skip]]:
    """The places in plain files from which they can be read."""
    import polars

    if not is_manifest(path):
        return {}
    table = read_table(path).filter(polars.col("marks").list.len() > 0).select("path", "marks")
    return {
        Path(name): [Skip.model_validate(mark) for mark in marks]
        for name, marks in table.collect().iter_rows()
    }


def _count(piece: Piece) -> int:
    if piece.rows is not None:
        return piece.rows
    if piece.stated is not None and piece.stated.rows is not None:
        return piece.stated.rows
    with reading(piece.file):
        return subl_core.count_rows(piece.file)


def _of_parquet(file: Path, rows: Sequence[int], marks: Sequence[Skip]) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="subl-sample-") as folder:
        taken = Path(folder) / "rows.parquet"
        with reading(file):
            subl_core.take_parquet_rows(file, rows, taken)
        yield from (content for _, content in row_lines(taken))


def _of_lines(file: Path, rows: Sequence[int], marks: Sequence[Skip]) -> Iterator[bytes]:
    starts = [mark.rows for mark in marks]
    for mark, wanted in itertools.groupby(rows, lambda row: bisect_right(starts, row)):
        begin = marks[mark - 1] if mark else BEGIN
        lines = row_lines(file, begin.bytes, begin.lines + 1)
        at = begin.rows
        for row in wanted:
            yield from (content for _, content in itertools.islice(lines, row - at, row - at + 1))
            at = row + 1
