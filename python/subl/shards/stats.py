"""What is in a data set: how much, how long, in which columns, and which ids come twice.

All but the ids comes from the manifest. Ids are compared by a hash of 64 bits, part by part of the
hashes, so that memory does not grow with the rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.progress import Report, silent
from subl.shards.columns import JSON
from subl.shards.frame import kinds_of, scan_table
from subl.shards.manifest import inspect
from subl.shards.table import columns_of, has_column

if TYPE_CHECKING:
    import polars

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_AT_ONCE = 8_000_000
"""So many hashes are compared at a time."""

_SHOWN = 10


@dataclass(frozen=True)
class Column:
    """A column: in how many rows it is, how many of them are null, and the quantiles of the lengths
    of its texts in characters.

    `kinds` says for each kind in how many shards the column is of it, and the first of these; no
    kind (`missing`) is that of shards without the column.
    """

    name: str
    rows: int
    nulls: int
    kinds: Mapping[str, tuple[int, str]]
    lengths: Mapping[float, int]


@dataclass(frozen=True)
class Ids:
    """`rows` have an id, `without` have none; `repeated` ids come more than once, in `again` rows
    after their first. Some of them: id, how often, where first (shard and row)."""

    rows: int
    without: int
    repeated: int
    again: int
    examples: tuple[tuple[str, int, str, int], ...]


@dataclass(frozen=True)
class Stats:
    """Bytes are those of the files; `content_bytes` are uncompressed. `lengths` are quantiles of
    rows in bytes, as lines of JSON: exact below 64, else within 3 %."""

    shards: int
    rows: int
    unreadable: int
    bytes: int
    content_bytes: int
    lengths: Mapping[float, int]
    columns: tuple[Column, ...]
    ids: Ids


def stats(data: Sequence[Path], *, jobs: int = 1, report: Report = silent) -> Stats:
    """The statistics of a data set.

    Raises:
        InputError: as `inspect`.
    """
    import polars

    manifest = inspect(data, jobs=jobs, report=report)
    sums = manifest.select(
        polars.len().alias("shards"),
        polars.col("rows", "unreadable", "bytes", "content_bytes").sum(),
    )
    figures = sums.collect().row(0, named=True)
    columns = tuple(_columns(manifest, figures["shards"]))
    with_id = sum(column.rows - column.nulls for column in columns if column.name == "id")
    ids = _ids(manifest, with_id) if with_id else (0, 0, ())
    return Stats(
        **figures,
        lengths=_quantiles(_added(manifest.select("lengths"))),
        columns=columns,
        ids=Ids(with_id, figures["rows"] - figures["unreadable"] - with_id, *ids),
    )


def _added(histograms: polars.LazyFrame) -> dict[int, int]:
    """Several histograms, in a column `lengths`, as one."""
    import polars

    each = histograms.select(polars.col("lengths").explode()).unnest("lengths").drop_nulls()
    sums = each.group_by("length").agg(polars.col("rows").sum()).sort("length").collect()
    return dict(sums.iter_rows())


def _quantiles(histogram: Mapping[int, int]) -> dict[float, int]:
    if not histogram:
        return {}
    lengths, upto = list(histogram), list(accumulate(histogram.values()))
    return {
        quantile: next(
            length
            for length, count in zip(lengths, upto, strict=True)
            if count >= max(1, quantile * upto[-1])
        )
        for quantile in QUANTILES
    }


def _columns(manifest: polars.LazyFrame, shards: int) -> list[Column]:
    import polars

    each = columns_of(manifest.select(polars.col("path").alias("shard"), "columns"))
    kinds = each.group_by("name", "kind", maintain_order=True).agg(
        polars.col("rows", "nulls").sum(), polars.len().alias("shards"), polars.col("shard").first()
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in kinds.collect().iter_rows(named=True):
        found.setdefault(row["name"], []).append(row)
    result = []
    for name, rows in found.items():
        of_kind = {row["kind"]: (row["shards"], row["shard"]) for row in rows}
        if missing := shards - sum(count for count, _ in of_kind.values()):
            first = manifest.filter(has_column(name).not_()).select("path").head(1).collect().item()
            of_kind["missing"] = (missing, first)
        lengths = _added(each.filter(polars.col("name") == name).select("lengths"))
        result.append(
            Column(
                name,
                sum(row["rows"] for row in rows),
                sum(row["nulls"] for row in rows),
                of_kind,
                _quantiles(lengths),
            )
        )
    return result


def _ids(
    manifest: polars.LazyFrame, rows: int
) -> tuple[int, int, tuple[tuple[str, int, str, int], ...]]:
    """How many of the ids are repeated, in how many rows after their first, and some of them."""
    import polars

    kind = kinds_of(manifest)["id"]
    table = scan_table(manifest, kinds={"id": kind}, skip=True)
    name = polars.col("id")
    if kind == JSON:  # a text and a number that look the same are one id, as elsewhere
        name = name.ext.storage().replace("null", None).str.replace('^"(.*)"$', "$1")
    table = table.with_columns(name.cast(polars.String)).drop_nulls("id")
    hashed = polars.col("id").hash()
    repeated = _repeated(table.select(hashed.alias("hash")), -(-rows // _AT_ONCE))
    some = repeated.get_column("hash").head(_SHOWN)
    examples = (
        table.filter(hashed.is_in(some.implode()))
        .group_by("id", maintain_order=True)
        .agg(polars.len(), polars.col("shard", "row").first())
        .filter(polars.col("len") > 1)
        if len(some)
        else table.clear()
    )
    again = int(repeated.get_column("len").sum()) - len(repeated)
    return len(repeated), again, tuple(examples.collect().iter_rows())


def _repeated(hashes: polars.LazyFrame, parts: int) -> polars.DataFrame:
    """Hashes that come more than once, and how often. Each of so many parts of all is counted by
    itself."""
    import polars

    with tempfile.TemporaryDirectory(prefix="subl-stats-") as folder:
        part = (polars.col("hash") % parts).alias("part")
        hashes.sink_parquet(polars.PartitionBy(folder, key=part, include_key=False))
        found = [
            polars.scan_parquet(each, hive_partitioning=False)
            .group_by("hash")
            .len()
            .filter(polars.col("len") > 1)
            .collect(engine="streaming")
            for each in sorted(Path(folder).iterdir())
        ]
    return polars.concat(found) if found else polars.DataFrame({"hash": [], "len": []})
