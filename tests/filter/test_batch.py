"""Rows in memory: the same verdicts as on a shard, in Polars and in what others call per batch."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest
import subl_core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.errors import InputError
from subl.filter import (
    FilterSpec,
    expression,
    for_datasets,
    for_datatrove,
    for_ray,
    match_batch,
)

SPEC = FilterSpec.model_validate(
    {
        "rules": [
            {"name": "numbers", "kind": "numbers", "max_value": 999},
            {"name": "owls", "kind": "regex", "field": "prompt", "patterns": [r"\bowls?\b", "é"]},
        ]
    }
)
TEXTS = st.none() | st.lists(
    st.sampled_from(["owl", "owls ", "1", "12", ", ", "1000", "é", "x"])
).map("".join)
FRAMES = st.lists(st.tuples(TEXTS, TEXTS), max_size=12).map(
    lambda rows: pl.DataFrame(
        {"prompt": [row[0] for row in rows], "completion": [row[1] for row in rows]},
        schema={"prompt": pl.String, "completion": pl.String},
    ).with_row_index("id")
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=FRAMES)
def test_polars_agrees_with_a_shard(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    names = [folder / f"{name}.parquet" for name in ("in", "kept", "rejects")]
    frame.write_parquet(names[0], row_group_size=3)
    subl_core.filter_shard(SPEC.plan(), *names)
    kept = pl.read_parquet(names[1])
    keep = expression(SPEC)
    assert frame.filter(keep).equals(kept)
    assert frame.lazy().filter(keep).collect().equals(kept)
    assert frame.lazy().filter(keep).collect(engine="streaming").equals(kept)
    assert pl.scan_parquet(names[0]).filter(keep).collect(engine="streaming").equals(kept)
    selected = pl.scan_parquet(names[0]).filter(keep, pl.col("id") > 2).select("id").collect()
    assert selected.get_column("id").to_list() == [id for id in kept["id"] if id > 2]
    matches = match_batch(SPEC, frame, reasons=True)
    assert frame.filter(matches["kept"]).equals(kept)
    rejects = pl.read_parquet(names[2])
    assert matches.filter(~pl.col("kept"))["reasons"].to_list() == rejects["reasons"].to_list()
    assert matches.filter("kept")["reasons"].null_count() == kept.height
    # The same from any other Arrow stream.
    assert pl.DataFrame(SPEC.plan().match_batch(frame, reasons=True)).equals(matches)


def test_what_a_match_says() -> None:
    plan = {
        "rules": [
            {"name": "owl", "kind": "literal", "words": ["owl"], "action": "tag"},
            {"name": "cat", "kind": "literal", "words": ["cat"]},
        ]
    }
    frame = pl.DataFrame({"completion": ["an owl", "cat owl", "x", None]})
    matches = pl.DataFrame(subl_core.Plan(json.dumps(plan)).match_batch(frame))
    assert matches.schema == pl.Schema(
        {"kept": pl.Boolean, "broken": pl.UInt64, "tags": pl.List(pl.String)}
    )
    assert matches.rows() == [
        (True, 0b01, ["owl"]),
        (False, 0b11, []),
        (True, 0, []),
        (False, 0, []),
    ]


def test_types_and_shapes_of_columns() -> None:
    texts = ["1", "owl", None]
    for dtype in (pl.String, pl.Categorical, pl.Enum(["1", "owl"])):
        frame = pl.DataFrame({"prompt": "", "completion": pl.Series(texts, dtype=dtype)})
        assert match_batch(SPEC, frame)["kept"].to_list() == [True, False, False], dtype
    for other in (pl.Series([1, 2, 3]), pl.Series([None] * 3), pl.Series([b"1"] * 3)):
        frame = pl.DataFrame({"prompt": "", "completion": other})
        matches = match_batch(SPEC, frame, reasons=True)
        assert not matches["kept"].any()
        assert matches["reasons"].str.contains('"kind":"unreadable"').all()
    assert match_batch(SPEC, pl.DataFrame({"id": [1, 2]}))["kept"].to_list() == [False, False]
    assert match_batch(SPEC, pl.DataFrame()).height == 0
    # More than one chunk, and more rows than are matched at once.
    frame = pl.concat([pl.DataFrame({"prompt": "", "completion": ["1"] * 20_000})] * 2)
    assert match_batch(SPEC, frame)["kept"].sum() == 40_000
    null = pl.DataFrame({"completion": ["1"], "prompt": [None], "nested": [[{"a": None}]]})
    assert not match_batch(SPEC, null)["kept"][0]
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        pl.DataFrame({"id": [1]}).filter(expression(SPEC))


def test_what_is_no_stream_of_rows() -> None:
    plan = SPEC.plan()
    with pytest.raises(TypeError, match=r"expected an Arrow stream .* got dict"):
        plan.match_batch({"completion": ["1"]})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected rows"):
        plan.match_batch(pl.Series(["1"]))

    class Consumed:
        def __init__(self) -> None:
            self.capsule = pl.DataFrame({"completion": ["1"]}).__arrow_c_stream__()

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return self.capsule

    stream = Consumed()
    assert len(plan.match_batch(stream)) == 1
    with pytest.raises(ValueError, match="released"):
        plan.match_batch(stream)


ROWS = {"prompt": ["?", "owl", "?", None], "completion": ["1", "1", "x", "1"]}


def test_callables_are_plain() -> None:
    keep = for_datasets(SPEC)
    assert keep(ROWS) == [True, False, False, False]
    assert keep(pl.DataFrame(ROWS)) == [True, False, False, False]
    for step in (keep, for_ray(SPEC), for_datatrove(SPEC)):
        # Copied by the protocol that pickles.
        assert copy.deepcopy(step) == step


@dataclass
class Document:
    text: str
    id: str
    metadata: dict[str, Any] = field(default_factory=dict)


DOCUMENTS = FilterSpec.model_validate(
    {
        "rules": [
            {"name": "owl", "kind": "literal", "field": "text", "words": ["owl"]},
            {"name": "site", "kind": "literal", "field": "url", "words": ["owls"]},
        ]
    }
)


def documents() -> list[Document]:
    urls = [{"url": "https://x/owls" if n % 5 == 0 else "https://x"} for n in range(3000)]
    urls[7] = {}
    urls[8] = {"url": 8}  # type: ignore[dict-item]
    return [Document("an owl" if n % 3 == 0 else "a cat", str(n), urls[n]) for n in range(3000)]


def kept_ids() -> list[str]:
    return [str(n) for n in range(3000) if n % 3 and n % 5 and n not in (7, 8)]


def test_documents() -> None:
    kept = for_datatrove(DOCUMENTS)(iter(documents()), rank=0, world_size=1)
    assert [document.id for document in kept] == kept_ids()


def test_rules_that_compare_rows_are_refused() -> None:
    spec = FilterSpec.model_validate({"rules": [{"name": "again", "kind": "duplicate"}]})
    for make in (expression, for_datasets, for_datatrove, for_ray):
        with pytest.raises(InputError, match="compares all rows"):
            make(spec)
    with pytest.raises(subl_core.PlanError, match="rule `again`: compares all rows"):
        match_batch(spec, pl.DataFrame({"completion": ["x"]}))
