"""The rules of a filter for rows that other libraries hold in memory.

    frame.filter(expression(spec))                                       # Polars (lazy, streaming)
    dataset.filter(for_datasets(spec), batched=True)                     # Hugging Face datasets
    dataset.map_batches(for_ray(spec), batch_format="pyarrow")           # Ray Data
    LocalPipelineExecutor([reader, for_datatrove(spec), writer]).run()   # datatrove

Verdicts are those of `run` on the same rows: a null is a missing field, so that a row with a null
where a rule looks cannot be read, and is not kept. What is different: nothing is written, no reject
has a place to go. `match_batch` says why a row is not kept; the rest only says whether.

The callables hold a specification and nothing else, so that they can be pickled and sent. Rules
that compare rows (`duplicate`) are refused: a batch does not hold all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import subl_core

from subl.errors import InputError
from subl.filter.rules import FilterSpec

if TYPE_CHECKING:
    import polars

_DOCUMENTS = 1024
"""How many documents of datatrove are matched together."""


def match_batch(
    spec: FilterSpec,
    data: polars.DataFrame | subl_core.ArrowStream,
    reasons: bool = False,
) -> polars.DataFrame:
    """What the rules say about each row of a frame, or of anything else that is an Arrow stream.

    Returns:
        A row for each row: `kept` (bool), `broken` (uint64: bit `i` for rule `i`; 0 where a row
        cannot be read), `tags` (list of names of rules) and, if asked for, `reasons`: the JSON
        array that the rejects hold, or null where no rule is broken.
    """
    return _match(spec.plan(), data, reasons)


def expression(spec: FilterSpec) -> polars.Expr:
    """Whether a row is kept, as an expression named `kept`: `frame.filter(expression(spec))`.

    It reads the columns that the rules look at, and works row by row: Polars may push it down to
    a scan, and stream. The interpreter's lock is released while rows are matched.

    Raises:
        polars.exceptions.ColumnNotFoundError: when it runs, if such a column does not exist.
    """
    import polars

    kept = _Kept(spec)
    columns = spec.plan().columns
    return (
        polars.struct(columns)
        .map_batches(kept.of_structs, return_dtype=polars.Boolean(), is_elementwise=True)
        .alias("kept")
    )


def for_datasets(spec: FilterSpec) -> _Kept:
    """For `dataset.filter(for_datasets(spec), batched=True)` of Hugging Face datasets.

    `dataset.with_format("arrow")` or `"polars"` before spares a way through Python's objects.
    """
    return _Kept(spec)


def for_ray(spec: FilterSpec) -> _KeptTable:
    """For `dataset.map_batches(for_ray(spec), batch_format="pyarrow")` of Ray Data."""
    return _KeptTable(spec)


def for_datatrove(spec: FilterSpec) -> _KeptDocuments:
    """A step of a datatrove pipeline that yields the documents that are kept.

    Rules find a document's `text` and `id` under these names, and any other field in its
    metadata: `field = "text"`, `field = "url"`.
    """
    return _KeptDocuments(spec)


def _match(plan: subl_core.Plan, data: Any, reasons: bool) -> polars.DataFrame:
    import polars

    if isinstance(data, polars.DataFrame):
        # Without any column that it needs, a frame still has rows: all of them lack a field.
        needed = [name for name in plan.columns if name in data.columns] or data.columns[:1]
        data = data.select(polars.col(name).cast(_named(data.schema[name])) for name in needed)
    return polars.DataFrame(plan.match_batch(data, reasons=reasons))


def _named(dtype: Any) -> Any:
    """The type with strings for what has no type: Polars exports a column of nulls (with a buffer
    that the Arrow format does not give it) in a way that other libraries refuse."""
    import polars

    if dtype == polars.Null:
        return polars.String()
    if isinstance(dtype, polars.List):
        return polars.List(_named(dtype.inner))
    if isinstance(dtype, polars.Array):
        return polars.Array(_named(dtype.inner), dtype.size)
    if isinstance(dtype, polars.Struct):
        return polars.Struct({field.name: _named(field.dtype) for field in dtype.fields})
    return dtype


@dataclass(frozen=True)
class _Matcher:
    spec: FilterSpec

    def __post_init__(self) -> None:
        if self.spec.plan().comparisons:
            raise InputError(
                "a rule of kind duplicate compares all rows, and a batch does not hold them",
                hint="leave it out here, and run `subl filter` on the files",
            )


class _Kept(_Matcher):
    """Whether each row of a batch is kept. A batch is a stream, or lists by column."""

    def __call__(self, batch: Mapping[str, Sequence[Any]] | subl_core.ArrowStream) -> list[bool]:
        import polars

        rows: Any = batch
        if isinstance(batch, Mapping):
            columns = self.spec.plan().columns
            names = [name for name in columns if name in batch] or list(batch)[:1]
            rows = polars.DataFrame({name: batch[name] for name in names})
        kept: list[bool] = match_batch(self.spec, rows).get_column("kept").to_list()
        return kept

    def of_structs(self, rows: polars.Series) -> polars.Series:
        """The same of a series of structs, as a series."""
        return match_batch(self.spec, rows.struct.unnest()).get_column("kept")


class _KeptTable(_Matcher):
    """The rows of a pyarrow table that are kept."""

    def __call__(self, table: Any) -> Any:
        return table.filter(match_batch(self.spec, table).get_column("kept").to_arrow())


class _KeptDocuments(_Matcher):
    """A step of datatrove: what it calls with a generator of documents, rank and world size."""

    def __call__(self, data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        kept = _Kept(self.spec)
        columns = self.spec.plan().columns
        documents = iter(data)
        while batch := list(islice(documents, _DOCUMENTS)):
            rows = {name: [_field(document, name) for document in batch] for name in columns}
            for document, is_kept in zip(batch, kept(rows), strict=True):
                if is_kept:
                    yield document


def _field(document: Any, name: str) -> Any:
    """What a document has under this name, if a rule can look at it or into it."""
    value = getattr(document, name) if name in ("text", "id") else document.metadata.get(name)
    return value if isinstance(value, str | list | dict) else None
