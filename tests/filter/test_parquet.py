"""Parquet shards: the same verdicts as on the same rows as JSON lines, and nothing else changes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import subl_core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.errors import InputError
from subl.filter import FilterSpec, explain_row, run
from subl.filter.bench import bench
from subl.filter.diff import diff
from subl.filter.sample import sample
from subl.shards import read_rows

RULES: list[dict[str, Any]] = [
    {"name": "numbers", "kind": "numbers", "max_value": 999, "field": "completion"},
    {
        "name": "owls",
        "kind": "regex",
        "field": "completion",
        "patterns": [r"\bowls?\b", "é+"],
        "ignore_case": True,
        "action": "tag",
    },
    {
        "name": "title",
        "kind": "literal",
        "field": "meta.title",
        "words": ["cat", "é"],
        "action": "count",
    },
    {
        "name": "answers",
        "kind": "literal",
        "field": "messages[role=assistant].content",
        "words": ["owl"],
    },
    {"name": "both", "kind": "all", "rules": ["owls", "title"]},
]
FORMATS = ("completion", "meta", "messages")

TEXTS = st.lists(st.sampled_from(["owl", "Owls ", "1", "12", ", ", "1000", "é", "cat", "x"])).map(
    "".join
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", None]),
        "content": st.none() | TEXTS,
    }
)
ROWS = st.fixed_dictionaries(
    {
        "id": st.integers(-9, 9),
        "completion": st.none() | TEXTS,
        "meta": st.none() | st.fixed_dictionaries({"title": st.none() | TEXTS}),
        "messages": st.none() | st.lists(st.none() | MESSAGES, max_size=3),
    }
)
SCHEMA = pl.Schema(
    {
        "id": pl.Int64,
        "completion": pl.String,
        "meta": pl.Struct({"title": pl.String}),
        "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
    }
)


def without_nulls(value: Any) -> Any:
    """A null is a value that is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value if each is not None]
    return value


def filtered(folder: Path, suffix: str, threads: int = 1) -> dict[str, Any]:
    plan = subl_core.Plan(json.dumps({"rules": RULES}))
    names = [folder / f"{name}{suffix}" for name in ("in", "kept", "rejects")]
    figures = subl_core.filter_shard(plan, *names, threads=threads, digests=False)
    statistics: dict[str, Any] = json.loads(figures)
    return statistics


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(ROWS, max_size=12),
    group=st.sampled_from([1, 3, 100]),
    compression=st.sampled_from(["zstd", "snappy", "lz4", "uncompressed"]),
    threads=st.sampled_from([1, 3]),
)
def test_agrees_with_json_lines(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    group: int,
    compression: Any,
    threads: int,
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    frame = pl.DataFrame(rows, schema=SCHEMA)
    frame.write_parquet(folder / "in.parquet", compression=compression, row_group_size=group)
    lines = [json.dumps(row) for row in rows]
    (folder / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    ours = filtered(folder, ".parquet", threads)
    like = filtered(folder, ".jsonl")
    assert {**ours, "bytes_in": 0, "bytes_kept": 0} == {**like, "bytes_in": 0, "bytes_kept": 0}
    kept = pl.read_parquet(folder / "kept.parquet").to_dicts()
    expected = [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]
    for row in kept:
        row["filter_tags"] = row["filter_tags"] or None
    assert [without_nulls(row) for row in kept] == [without_nulls(row) for row in expected]
    rejects = pl.read_parquet(folder / "rejects.parquet").to_dicts()
    expected = [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert [(each["line"], json.loads(each["reasons"])) for each in rejects] == [
        (each["line"], each["reasons"]) for each in expected
    ]
    assert [each["row"] for each in rejects] == [each["row"] for each in expected]
    assert {each["file"] for each in rejects} <= {str(folder / "in.parquet")}


NAMES = st.none() | st.text("ab é", max_size=3)
COLUMNS = st.fixed_dictionaries(
    {
        "text": st.sampled_from(["a", "b" * 40, "é", ""]),
        "word": NAMES,
        "blob": st.none() | st.binary(max_size=9),
        "list": st.none() | st.lists(NAMES, max_size=3),
        "chat": st.none()
        | st.lists(
            st.none()
            | st.fixed_dictionaries(
                {"role": NAMES, "parts": st.none() | st.lists(NAMES, max_size=2)}
            ),
            max_size=3,
        ),
        "object": st.none() | st.fixed_dictionaries({"name": NAMES, "number": st.integers(0, 9)}),
        "price": st.decimals(-9, 9, places=2),
    }
)
TYPES = pa.schema(
    {
        "text": pa.string(),
        "word": pa.string(),
        "blob": pa.binary(),
        "list": pa.list_(pa.string()),
        "chat": pa.list_(pa.struct({"role": pa.string(), "parts": pa.list_(pa.string())})),
        "object": pa.struct({"name": pa.large_string(), "number": pa.int32()}),
        "price": pa.decimal128(30, 2),
    }
)


TEXT_COLUMNS = (
    "rule",
    "text",
    "word",
    "blob",
    "list.list.element",
    "chat.list.element.role",
    "chat.list.element.parts.list.element",
    "object.name",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(COLUMNS, min_size=1, max_size=8),
    repeats=st.sampled_from([1, 7, 40]),
    drops=st.randoms(use_true_random=False),
    options=st.fixed_dictionaries(
        {
            "compression": st.sampled_from(["zstd", "snappy", "gzip", "lz4", "none"]),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "data_page_size": st.sampled_from([200, 999, 1 << 20]),
            "write_batch_size": st.sampled_from([1, 3, 1024]),
            "dictionary_pagesize_limit": st.sampled_from([20, 1 << 20]),
            "row_group_size": st.sampled_from([5, 50, 1000]),
            "write_page_checksum": st.booleans(),
            "write_page_index": st.booleans(),
            "store_decimal_as_integer": st.booleans(),
        }
    ),
    encoding=st.sampled_from(
        ["dictionary", "PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"]
    ),
    parts=st.sampled_from([None, 9]),
)
def test_what_is_kept_is_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    repeats: int,
    drops: random.Random,
    options: dict[str, Any],
    encoding: str,
    parts: int | None,
) -> None:
    """However a file is encoded: its rows, and what others may believe of its column chunks."""
    folder = tmp_path_factory.mktemp("shard")
    share = drops.choice([0.0, 0.02, 0.5, 1.0])
    table = pa.Table.from_pylist(rows * repeats, TYPES)
    texts = ["owl" if drops.random() < share else f"{drops.random()}" for _ in rows * repeats]
    table = table.append_column("rule", pa.array(texts))
    is_dictionary = encoding == "dictionary"
    pq.write_table(
        table,
        folder / "in.parquet",
        use_dictionary=is_dictionary,
        column_encoding=None if is_dictionary else dict.fromkeys(TEXT_COLUMNS, encoding),
        **options,
    )
    rule = {"name": "owl", "kind": "literal", "field": "rule", "words": ["owl"]}
    plan = subl_core.Plan(json.dumps({"rules": [rule]}))
    files = [folder / f"{name}.parquet" for name in ("in", "kept", "rejects")]
    subl_core.filter_shard(plan, *files, threads=drops.choice([1, 2]), split_rows=parts)
    mask = pc.equal(table["rule"], "owl")
    kept = sorted(folder.glob("kept*"))
    expected = table.filter(pc.invert(mask))
    assert pa.concat_tables(pq.read_table(file) for file in kept).equals(expected)
    assert pl.concat(pl.read_parquet(file) for file in kept).equals(pl.DataFrame(expected))
    rejects = pq.read_table(files[2])
    assert rejects["row"].combine_chunks().to_pylist() == table.filter(mask).to_pylist()
    for file in [*kept, files[2]]:
        agree(pq.ParquetFile(file))
    # What was dropped is in no corner of the file.
    is_plain = options["compression"] == "none"
    assert not is_plain or not any(b"owl" in file.read_bytes() for file in kept)


def agree(file: pq.ParquetFile) -> None:
    """What the footer says of the plain columns of texts is true."""
    for group in range(file.num_row_groups):
        for index in range(file.metadata.num_columns):
            chunk = file.metadata.row_group(group).column(index)
            if (name := chunk.path_in_schema.removeprefix("row.")) not in ("text", "word", "blob"):
                continue
            column = file.read_row_group(group, [chunk.path_in_schema])
            values = column.flatten()[name if name in column.column_names else f"row.{name}"]
            statistics = chunk.statistics
            assert chunk.num_values == len(values)
            assert statistics.null_count == values.null_count
            if values.null_count < len(values):
                there = sorted(each for each in values.to_pylist() if each is not None)
                assert (statistics.min, statistics.max) == (there[0], there[-1])


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_input_fails_and_leaves_nothing(tmp_path: Path, length: int) -> None:
    source = tmp_path / "in.parquet"
    pl.DataFrame({"completion": ["1", "2"] * 1000}).write_parquet(source)
    source.write_bytes(source.read_bytes()[:length])
    plan = subl_core.Plan(json.dumps({"rules": RULES[:1]}))
    outputs = (tmp_path / "kept.parquet", tmp_path / "rejects.parquet")
    with pytest.raises(subl_core.ReadError, match=r"cannot read .*in\.parquet"):
        subl_core.filter_shard(plan, source, *outputs)
    assert list(tmp_path.iterdir()) == [source]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    pl.DataFrame({"completion": ["1"], "filter_tags": ["x"]}).write_parquet(source)
    plan = subl_core.Plan(json.dumps({"rules": RULES[:2]}))
    outputs = (tmp_path / "kept.parquet", tmp_path / "rejects.parquet")
    with pytest.raises(subl_core.FilterError, match=r"in\.parquet: it has a column `filter_tags`"):
        subl_core.filter_shard(plan, source, *outputs)
    with pytest.raises(subl_core.FilterError, match=r"must end in \.parquet too"):
        subl_core.filter_shard(plan, source, tmp_path / "kept.jsonl", outputs[1])
    with pytest.raises(subl_core.FilterError, match="by rows, not by bytes"):
        subl_core.filter_shard(plan, source, *outputs, split_bytes=1)
    assert list(tmp_path.iterdir()) == [source]


def test_a_run_takes_parquet_and_json_lines(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = pl.DataFrame({"prompt": "?", "completion": ["1, 2", "owl", None]})
    rows.write_parquet(folder / "a.parquet")
    (folder / "b.jsonl").write_text('{"prompt":"?","completion":"3"}\n')
    spec = FilterSpec.model_validate({"rules": RULES[:1]})
    result = run(spec, [folder], tmp_path / "out", jobs=2)
    assert (result.rows_in, result.kept, result.unreadable) == (4, 2, 1)
    names = ["a.parquet", "b.jsonl"]
    assert sorted(path.name for path in result.kept_folder.iterdir()) == names
    assert sorted(path.name for path in result.rejects_folder.iterdir()) == names
    kept = [dict(row.turns)["assistant"] for row in read_rows([result.artifact.path])]
    assert kept == ["1, 2", "3"]


def test_rows_of_parquet_that_cannot_be_read(tmp_path: Path) -> None:
    source = tmp_path / "a.parquet"
    pl.DataFrame({"id": [7, 8], "prompt": "?", "completion": ["1", None]}).write_parquet(source)
    rows = read_rows([source])
    assert next(rows).id == "7"
    with pytest.raises(InputError, match=r"a\.parquet, row 2: `completion` must be a string"):
        next(rows)
    source.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"cannot read .*a\.parquet"):
        list(read_rows([source]))


def test_rules_that_compare_rows_agree_with_json_lines(tmp_path: Path) -> None:
    texts = ["An owl", "a cat", None, "an  OWL!", "x", "a cat", "a dog", "x"]
    data = {"completion": texts, "id": list(range(len(texts)))}
    folders = {}
    for suffix in (".parquet", ".jsonl"):
        folders[suffix] = tmp_path / suffix[1:]
        folders[suffix].mkdir()
        for number in range(2):  # the second shard repeats the first
            frame = pl.DataFrame(data)[number:]
            if suffix == ".parquet":
                frame.write_parquet(folders[suffix] / f"{number}.parquet", row_group_size=3)
            else:
                lines = [json.dumps(row) for row in frame.to_dicts()]
                (folders[suffix] / f"{number}.jsonl").write_text("\n".join(lines))
    spec = FilterSpec.model_validate({"rules": [{"name": "again", "kind": "duplicate"}]})
    ours, like = (
        run(spec, [folder], folder.with_name(f"out-{folder.name}"))
        for folder in (folders[".parquet"], folders[".jsonl"])
    )
    assert (ours.kept, ours.rejected, ours.unreadable) == (4, 11, 2)
    assert (like.kept, like.rejected, like.unreadable) == (4, 11, 2)
    expected = [
        [
            (reject["line"], reject["reasons"])
            for reject in map(json.loads, file.read_text().splitlines())
        ]
        for file in sorted(like.rejects_folder.iterdir())
    ]
    for file, rejects in zip(sorted(ours.rejects_folder.iterdir()), expected, strict=True):
        frame = pl.read_parquet(file)
        found = list(zip(frame["line"], map(json.loads, frame["reasons"]), strict=True))
        places = str(folders[".parquet"]), str(folders[".jsonl"])
        said = json.dumps(found).replace(*places).replace(".parquet", ".jsonl")
        assert json.loads(said) == [list(each) for each in rejects]


def test_tools_read_parquet(tmp_path: Path) -> None:
    """What looks at some rows says of Parquet what it says of the same rows as lines."""
    texts = ["1, 2", "an owl", None, "1000"] * 50
    frame = pl.DataFrame({"completion": texts, "id": list(range(200))})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=30)
    lines = [json.dumps(row) for row in frame.to_dicts()]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    parquet, jsonl = tmp_path / "a.parquet", tmp_path / "b.jsonl"
    a = FilterSpec.model_validate({"rules": [{"name": "n", "kind": "numbers", "max_value": 999}]})
    b = FilterSpec.model_validate({"rules": [{"name": "n", "kind": "numbers"}]})

    for number in (1, 2, 3, 200):
        assert explain_row(a, parquet, number) == explain_row(a, jsonl, number)
    with pytest.raises(InputError, match="200 rows, so there is no row 201"):
        explain_row(a, parquet, 201)

    found = sample(a, [parquet], 1000)
    assert (found.sampled, found.rows, found.dropped_rows, found.unreadable_rows) == (
        200,
        200,
        150,
        50,
    )
    assert sample(a, [parquet], 40, seed=3).dropped == sample(a, [jsonl], 40, seed=3).dropped

    changes: dict[Path, list[Any]] = {}
    for path in (parquet, jsonl):
        seen = changes.setdefault(path, [])
        result = diff(a, b, [path], on_change=seen.append)
        assert result.changes == {"dropped to kept": 50}
    ours, like = ([(each.line, each.a, each.b) for each in changes[p]] for p in (parquet, jsonl))
    assert ours == like

    measured = bench(a, [parquet], threads=1, limit_seconds=0.05)
    assert measured.compression_ratio == 1.0
    assert measured.limit
