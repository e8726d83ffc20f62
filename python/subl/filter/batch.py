"""The rules of a filter for rows that other libraries hold in memory.

    frame.filter(expression(spec))                                       # Polars (lazy, streaming)
    dataset.filter(for_datasets(spec), batched=True)                     # Hugging Face datasets
    dataset.map_batches(for_ray(spec), batch_format="pyarrow")           # Ray Data
    LocalPipelineExecutor([reader, for_datatrove(spec), writer]).run()   # datatrove

Verdicts are those of `run` on the same rows, row by row. A null is a missing value. A row that
cannot be read (a text with half of a surrogate pair in it, no text where a rule looks) is not kept,
and its neighbours are what they are. Columns of Arrow are looked at where they lie; rows that are
objects of Python, of whatever mixed types, go to the engine as what they are in JSON. There, what
JSON does not know (bytes, times) is something else than a text, and a number is one whatever its
size, NaN too.

What is different: nothing is written, no reject has a place to go, no line is too long, and nothing
is in the way of tags. `match_batch` says why a row is not kept; the rest only says whether.

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
from subl.filter.spec import FilterSpec

if TYPE_CHECKING:
    import polars

_DOCUMENTS = 1024
"""How many documents of datatrove are matched together."""


def match_batch(
    spec: FilterSpec,
    data: polars.DataFrame | subl_core.ArrowStream | Iterable[Mapping[str, Any]],
    reasons: bool = False,
) -> polars.DataFrame:
    """What the rules say about each row of a frame, of anything else that is an Arrow stream, or of
    an iterable of objects.

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

    if isinstance(data, Mapping):
        matches = plan.match_rows(_rows_of_lists(plan, data), reasons=reasons)
    elif isinstance(data, polars.DataFrame):
        matches = _match_frame(plan, data, reasons)
    elif hasattr(data, "to_pylist") and hasattr(data, "select"):
        matches = _match_table(plan, data, reasons)
    elif hasattr(data, "iloc"):
        # The columns of pandas are objects of Python where they are not numbers.
        names = [name for name in plan.columns if name in data]
        rows = data[names].to_dict("records") if names else [{}] * len(data)
        matches = plan.match_rows(rows, reasons=reasons)
    elif hasattr(data, "__arrow_c_stream__") or not isinstance(data, Iterable):
        matches = plan.match_batch(data, reasons=reasons)
    else:
        matches = plan.match_rows(data, reasons=reasons)
    return polars.DataFrame(matches)


def _match_frame(plan: subl_core.Plan, frame: Any, reasons: bool) -> subl_core.Matches:
    import polars

    names = [name for name in plan.columns if name in frame.columns]
    if not names:
        # A frame still has rows: all of them lack a field.
        return plan.match_rows([{}] * frame.height, reasons=reasons)
    frame = frame.select(names)
    if polars.Object in frame.dtypes:
        return plan.match_rows(frame.iter_rows(named=True), reasons=reasons)
    frame = frame.select(polars.col(name).cast(_named(frame.schema[name])) for name in names)
    return plan.match_batch(frame, reasons=reasons)


def _match_table(plan: subl_core.Plan, table: Any, reasons: bool) -> subl_core.Matches:
    """A table or a batch of pyarrow."""
    names = [name for name in plan.columns if name in table.column_names]
    table = table.select([table.column_names.index(name) for name in names])
    if not names:
        return plan.match_rows([{}] * table.num_rows, reasons=reasons)
    extensions = {getattr(field.type, "extension_name", "arrow.json") for field in table.schema}
    if extensions <= {"arrow.json"}:
        return plan.match_batch(table, reasons=reasons)
    # Ray keeps objects that Arrow has no type for in columns of a type of its own.
    return plan.match_rows(table.to_pylist(), reasons=reasons)


def _rows_of_lists(plan: subl_core.Plan, columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of a batch of lists by column.

    Of a batch of datasets that decodes a column when it is asked for, those that rules look at: the
    others are texts that Arrow has checked, or no texts.
    """
    names: Sequence[str] = list(columns)
    if not isinstance(columns, dict):
        names = [name for name in plan.columns if name in columns] or names[:1]
    for values in zip(*(columns[name] for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def _named(dtype: Any) -> Any:
    """The type without what Polars exports in a way that other libraries refuse: columns of nulls
    (with a buffer that the Arrow format does not give them), and integers of 128 bits."""
    import polars

    if dtype == polars.Null:
        return polars.String()
    if dtype in (polars.Int128, polars.UInt128):
        return polars.Float64()
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

    def __call__(self, batch: Any) -> list[bool]:
        kept: list[bool] = match_batch(self.spec, batch).get_column("kept").to_list()
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
        documents = iter(data)
        while batch := list(islice(documents, _DOCUMENTS)):
            rows = ({**each.metadata, "text": each.text, "id": each.id} for each in batch)
            kept = match_batch(self.spec, rows).get_column("kept")
            for document, is_kept in zip(batch, kept, strict=True):
                if is_kept:
                    yield document
