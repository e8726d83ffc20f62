"""One answer for the same rows: as lines, as Parquet, in frames and tables, and as objects."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import subl_core
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from subl.filter import (
    FilterSpec,
    expression,
    for_datasets,
    for_datatrove,
    for_ray,
    match_batch,
)

FIELDS = ("a", "a.b", "m", "m[]", "m[].c", "m[r=x].c", "m[].c[]")


def spec_of(*fields: str) -> FilterSpec:
    rules = [{"name": name, "kind": "literal", "words": ["owl"], "field": name} for name in fields]
    return FilterSpec.model_validate({"rules": rules})


def run_keeps(folder: Path, spec: FilterSpec, lines: list[str]) -> list[bool]:
    """What a run keeps of these lines."""
    names = [folder / f"{name}.jsonl" for name in ("in", "kept", "rejects")]
    names[0].write_text("".join(f"{line}\n" for line in lines))
    subl_core.filter_shard(spec.plan(), *names)
    rejected = {json.loads(line)["line"] for line in names[2].read_text().splitlines()}
    return [number not in rejected for number in range(1, len(lines) + 1)]


def run_keeps_parquet(folder: Path, spec: FilterSpec, table: pa.Table) -> list[bool]:
    names = [folder / f"{name}.parquet" for name in ("in", "kept", "rejects")]
    pq.write_table(table, names[0], row_group_size=3)
    subl_core.filter_shard(spec.plan(), *names)
    rejected = set(pq.read_table(names[2], columns=["line"])["line"].to_pylist())
    return [number not in rejected for number in range(1, table.num_rows + 1)]


@dataclass
class Document:
    text: str
    id: str
    metadata: dict[str, Any] = field(default_factory=dict)


TEXTS = st.sampled_from(["owl", "a cat", "", "é", "x"])
ODD = st.sampled_from(
    [
        float("nan"),
        float("inf"),
        10**40,
        -(2**63),
        b"owl",
        bytearray(b"owl"),
        datetime.datetime(2020, 1, 1),
        datetime.timedelta(1),
        Decimal("1.5"),
        "\ud800",
        "owl \udfff",
        object(),
        {1: "owl", None: "x", (2, 3): "y"},
        ("owl", "x"),
        np.array(["owl", "x"]),
        np.array([{"c": "owl"}, None], dtype=object),
        np.array([1.5, np.nan]),
        np.str_("owl"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["b", "c", "r", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.none()
    | st.fixed_dictionaries(
        {}, optional={"r": st.sampled_from(["x", "y", None]), "c": TEXTS | VALUES}
    ),
    max_size=3,
)
ROWS = st.fixed_dictionaries(
    {}, optional={"a": TEXTS | VALUES, "m": MESSAGES | VALUES, "other": VALUES}
)


def plain(value: Any) -> Any:
    """A value as a program that knows only JSON would write it."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if not isinstance(key, tuple)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else 0
    return value if isinstance(value, str | int | None) else {}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROWS, max_size=6), field=st.sampled_from(FIELDS))
@example(rows=[{"m": [{"c": None}]}, {"m": [{"c": "x"}]}, {"m": [{"c": "owl"}]}], field="m[].c")
@example(rows=[{"a": {"x": 1}}, {"a": {"b": "x"}}, {"a": {"b": "owl"}}], field="a.b")
@example(rows=[{"m": [{"c": "x"}]}, {"m": [{"c": [{"t": 1}]}]}, {"m": []}], field="m[].c")
@example(rows=[{"a": "x", "other": "\ud800"}, {"a": "x"}], field="a")
@example(rows=[{"a": "x", "other": 10**5000}, {"a": "x", "other": float("nan")}], field="a")
def test_objects_of_python(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], field: str
) -> None:
    spec = spec_of(field)
    lines = [
        json.dumps(plain({**row, "other": None if big(row) else row.get("other")})) for row in rows
    ]
    expected = run_keeps(tmp_path_factory.mktemp("rows"), spec, lines)
    assert match_batch(spec, rows)["kept"].to_list() == expected
    # A batch of a data set has all columns of all rows.
    columns = {name: [row.get(name) for row in rows] for name in ("a", "m", "other")}
    assert for_datasets(spec)(columns) == expected
    documents = [Document("", str(number), row) for number, row in enumerate(rows)]
    kept = [int(document.id) for document in for_datatrove(spec)(documents)]
    assert kept == [number for number, is_kept in enumerate(expected) if is_kept]


def big(row: dict[str, Any]) -> bool:
    """Has it a number that Python itself does not write down?"""
    return isinstance(row.get("other"), int) and abs(row["other"]) > 10**4000


def test_an_object_within_itself() -> None:
    loop: list[Any] = ["x"]
    loop += [loop, loop]
    deep: Any = "x"
    for _ in range(200_000):
        deep = [deep]
    rows = [{"a": "x"}, {"a": "x", "m": loop}, {"a": "x", "m": deep}, {"a": "x"}]
    found = match_batch(spec_of("a"), rows, reasons=True)
    assert found["kept"].to_list() == [True, False, False, True]
    assert "nested too deeply" in found["reasons"][1]
    [reason] = json.loads(found["reasons"][1])
    assert reason["field"] is None
    for level in range(1, 130):
        deep = "x" if level == 1 else [deep]
        kept = match_batch(spec_of("a"), [{"a": "x", "m": deep}])["kept"][0]
        assert kept == (level <= 128), level


TYPED = st.fixed_dictionaries(
    {
        "a": st.none() | st.fixed_dictionaries({"b": st.none() | TEXTS}),
        "m": st.none()
        | st.lists(
            st.none()
            | st.fixed_dictionaries(
                {
                    "r": st.sampled_from(["x", "y", None]),
                    "c": st.none() | st.lists(st.none() | TEXTS, max_size=2),
                }
            ),
            max_size=3,
        ),
        "n": st.floats(),
    }
)
SCHEMA = pa.schema(
    {
        "a": pa.struct({"b": pa.string()}),
        "m": pa.list_(pa.struct({"r": pa.string(), "c": pa.list_(pa.string())})),
        "n": pa.float64(),
    }
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(TYPED, max_size=8), field=st.sampled_from(FIELDS))
def test_columns(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], field: str
) -> None:
    folder, spec = tmp_path_factory.mktemp("rows"), spec_of(field)
    expected = run_keeps(folder, spec, [json.dumps(plain(row)) for row in rows])
    table = pa.Table.from_pylist(rows, SCHEMA)
    frame = pl.DataFrame(table)
    assert run_keeps_parquet(folder, spec, table) == expected
    assert match_batch(spec, table)["kept"].to_list() == expected
    assert match_batch(spec, frame)["kept"].to_list() == expected
    assert frame.select(expression(spec))["kept"].to_list() == expected
    assert (
        pl.scan_parquet(folder / "in.parquet").select(expression(spec)).collect()["kept"].to_list()
        == expected
    )
    kept = [number for number, is_kept in enumerate(expected) if is_kept]
    ours = table.append_column("id", pa.array(range(len(rows)), pa.int64()))
    assert for_ray(spec)(ours)["id"].to_pylist() == kept
    assert for_datasets(spec)(table) == expected
    assert for_datasets(spec)(table.to_pydict()) == expected
    if rows:
        assert for_datasets(spec)(table.to_pandas()) == expected


def json_column(documents: list[Any]) -> pa.Array:
    texts = [None if each is None else json.dumps(each) for each in documents]
    return pa.array(texts, pa.json_())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(TYPED, max_size=6), field=st.sampled_from(FIELDS))
def test_columns_of_json_documents(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], field: str
) -> None:
    folder, spec = tmp_path_factory.mktemp("rows"), spec_of(field)
    expected = run_keeps(folder, spec, [json.dumps(plain(row)) for row in rows])
    whole = pa.table({name: json_column([row[name] for row in rows]) for name in ("a", "m")})
    lists = [row["m"] for row in rows]
    elements = json_column([each for row in lists for each in row or ()])
    lengths = [0, *np.cumsum([len(row or ()) for row in lists]).tolist()]
    mask = pa.array([row is None for row in lists], pa.bool_())
    items = pa.ListArray.from_arrays(pa.array(lengths, pa.int32()), elements, mask=mask)
    parts = pa.table({"a": whole["a"], "m": items})
    for table in (whole, parts):
        assert match_batch(spec, table)["kept"].to_list() == expected
        assert run_keeps_parquet(folder, spec, table) == expected
    assert match_batch(spec, pl.from_arrow(whole))["kept"].to_list() == expected


def test_a_document_that_is_not_json_is_unreadable() -> None:
    texts = ['{"b": "x"}', '{"b": "x"', '{"b": "\\ud800"}', '{\n"b": "x"\n}', '"x"', None]
    table = pa.table({"a": pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))})
    found = match_batch(spec_of("a.b"), table, reasons=True)
    assert found["kept"].to_list() == [True, False, False, True, False, False]
    reasons = [json.loads(each)[0]["reason"] for each in found["reasons"] if each is not None]
    assert reasons == ["invalid JSON", "lone surrogate", "missing field", "missing field"]


def test_what_polars_holds() -> None:
    spec = spec_of("a")
    for dtype in (pl.Int128, pl.UInt128, pl.Float16, pl.Decimal(9, 2), pl.Binary, pl.Date, pl.Null):
        values = [None if dtype == pl.Null else b"1" if dtype == pl.Binary else 1]
        frame = pl.DataFrame({"a": pl.Series(values).cast(dtype), "b": ["x"]})
        assert match_batch(spec, frame)["kept"].to_list() == [False], dtype
        assert frame.filter(expression(spec)).height == 0, dtype
    objects = pl.DataFrame({"a": pl.Series(["x", {"b": 1}, "owl"], dtype=pl.Object)})
    assert match_batch(spec, objects)["kept"].to_list() == [True, False, False]
    assert match_batch(spec, pl.DataFrame({"b": [1, 2]}))["kept"].to_list() == [False, False]


def test_other_rows() -> None:
    spec = spec_of("a")
    rows = ({"a": text} for text in ["x", "owl", None])
    assert match_batch(spec, rows)["kept"].to_list() == [True, False, False]
    found = match_batch(spec, [{"a": "x"}, ["a"], "a", None], reasons=True)
    assert found["kept"].to_list() == [True, False, False, False]
    assert all("not a JSON object" in each for each in found["reasons"][1:])
    with pytest.raises(TypeError, match="expected an Arrow stream"):
        match_batch(spec, 7)  # type: ignore[arg-type]
    # Tags are not written here: nothing is in their way.
    tags = FilterSpec.model_validate(
        {"rules": [{"name": "w", "kind": "literal", "words": ["x"], "field": "a", "action": "tag"}]}
    )
    found = match_batch(tags, [{"a": "x", "filter_tags": ["before"]}])
    assert found.row(0) == (True, 1, ["w"])
