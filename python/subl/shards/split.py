"""Split a data set into bins of about the same size, one for each worker.

The largest first, each to the bin that has least (`artifact.balanced`): the fullest bin has at most
a third more than the best split would give it.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from subl.artifact import Artifact, Made, StageSpec, balanced, build
from subl.errors import InputError
from subl.progress import Report, silent
from subl.shards.bins import bin_name, bin_text
from subl.shards.manifest import inspect
from subl.shards.names import inputs_of
from subl.shards.table import relative

if TYPE_CHECKING:
    import polars


class SplitSpec(StageSpec):
    """How a data set is split."""

    format_version: ClassVar = 2
    packages: ClassVar = ("polars",)

    bins: int = Field(gt=0, description="how many bins; fewer where there is not so much to split")
    by: Literal["bytes", "rows"] = Field(
        "bytes", description="what bins have the same of; bytes are uncompressed"
    )
    cut: bool = Field(
        False, description="split shards that are larger than a bin into ranges of their rows"
    )
    data: tuple[str, ...] = Field(
        (), description="where the data is, from the folder that the bins' folder is in"
    )


def split(
    spec: SplitSpec,
    data: Sequence[Path],
    out: Path,
    *,
    jobs: int = 1,
    report: Report = silent,
) -> Artifact:
    """Write the bins of `data` into the artifact `out`, a file for each: see `bins`. A manifest is
    not compared with its shards; who opens one of these does that.

    Raises:
        InputError: as `inspect`, or there are no rows.
    """
    base = os.path.realpath(out.parent)
    spec = spec.model_copy(update={"data": tuple(relative(map(str, data), base))})
    table = inspect(data, jobs=jobs, report=report)

    def work(folder: Path) -> Made:
        bins = bins_of(spec, table, f"{base}/{out.name}")
        for number, parts in enumerate(bins):
            text = bin_text(number, len(bins), list(map(_part, parts.iter_rows(named=True))))
            (folder / bin_name(number, len(bins))).write_text(text, encoding="utf-8")
        return Made(figures(spec, bins))

    return build(out, "split", spec, inputs_of(data), work)


def figures(spec: SplitSpec, bins: Sequence[polars.DataFrame]) -> dict[str, Any]:
    """What `result.json` says of bins; `largest` and `smallest` are what they have the same of."""
    loads = [int(parts.get_column(spec.by).sum()) for parts in bins]
    return {
        "bins": len(bins),
        "parts": sum(map(len, bins)),
        "rows": sum(int(parts.get_column("rows").sum()) for parts in bins),
        "bytes": sum(int(parts.get_column("bytes").sum()) for parts in bins),
        "by": spec.by,
        "largest": max(loads),
        "smallest": min(loads),
    }


def bins_of(spec: SplitSpec, table: polars.LazyFrame, folder: str) -> list[polars.DataFrame]:
    """The parts of each bin of a manifest, in their order: paths are those from `folder`. No bin is
    without rows.

    Raises:
        InputError: there are none.
    """
    import polars

    pieces = _pieces(spec, table, folder)
    has_rows = polars.col("rows") > 0
    weights = pieces.select(has_rows * polars.col(spec.by)).to_series().to_list()
    count = min(spec.bins, sum(map(bool, weights)))
    return [pieces[positions] for positions in balanced(weights, count)]


def _pieces(spec: SplitSpec, table: polars.LazyFrame, folder: str) -> polars.DataFrame:
    """Whole shards, and the parts of those that are cut, in order; paths are from `folder`."""
    import polars

    shards = table.select(
        "path",
        polars.col("bytes").alias("size"),
        "sha256",
        "rows",
        polars.col("content_bytes").alias("bytes"),
        *["marks"] * spec.cut,
    ).collect()
    if not shards.get_column("rows").sum():
        raise InputError("there are no rows to split")
    paths = relative(shards.get_column("path"), folder)
    shards = shards.with_columns(polars.Series("path", paths, polars.String))
    if not spec.cut:
        return shards
    most = math.ceil(int(shards.get_column(spec.by).sum()) / spec.bins)
    parts = [
        part for shard in shards.iter_rows(named=True) for part in _cut(shard, shard[spec.by], most)
    ]
    return polars.DataFrame(parts, infer_schema_length=None)


def _cut(shard: Mapping[str, Any], weight: int, most: int) -> Iterator[dict[str, Any]]:
    """A shard, or its rows in as many ranges of about the same length as it takes for each to have
    `most` or less of the weight."""
    marks, shard = shard["marks"], {key: shard[key] for key in shard if key != "marks"}
    count = min(shard["rows"], math.ceil(weight / most))
    if count < 2:
        yield {**shard, "start": None, "skip": None}
        return
    rows, size = shard["rows"], shard["bytes"]
    for start, end in pairwise(rows * number // count for number in range(count + 1)):
        before = bisect_right(marks, start, key=itemgetter("rows"))
        yield {
            **shard,
            "rows": end - start,
            "bytes": size * end // rows - size * start // rows,
            "start": start,
            "skip": marks[before - 1] if before else None,
        }


def _part(piece: Mapping[str, Any]) -> dict[str, Any]:
    """As a bin's file has it: what does not concern a part is left out."""
    return {key: value for key, value in piece.items() if value is not None}
