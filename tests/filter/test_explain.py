"""One row: found by its number, shown with what a reason is about; rules in words."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest
import zstandard

from subl.errors import InputError
from subl.filter import FilterSpec, LiteralRule, NumbersRule, RegexRule, explain
from subl.filter.explain import explain_row, explain_rules, reason_value

LINES = b'{"completion": "1"}\r\n\n{"completion": "3"}'
SPEC = FilterSpec(rules=(LiteralRule(name="owl", words=("owl",)),))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_line_by_its_number(tmp_path: Path, name: str) -> None:
    compress = {".gz": gzip.compress, ".zst": zstandard.compress}.get(name[7:], bytes)
    (tmp_path / name).write_bytes(compress(LINES))
    verdicts = [explain_row(SPEC, tmp_path / name, number) for number in (1, 2, 3)]
    texts = [verdict and verdict["values"]["completion"] for verdict in verdicts]
    assert texts == [["1"], None, ["3"]]
    for number in (4, 99):
        with pytest.raises(InputError, match=f"{name} has 3 rows, so there is no row {number}"):
            explain_row(SPEC, tmp_path / name, number)


@pytest.mark.parametrize(
    ("field", "row"),
    [
        ("completion", {"completion": "é owl"}),
        ("meta.title", {"meta": {"title": "é owl"}}),
        ("messages[].content", {"messages": [{"content": "a"}, {"x": 1}, {"content": "é owl"}]}),
        (
            "messages[role=assistant].content",
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "é owl"},
                ]
            },
        ),
        ('"a.b"[]', {"a.b": ["a", "é owl"]}),
    ],
)
def test_the_text_of_a_reason(field: str, row: dict[str, object]) -> None:
    spec = FilterSpec(rules=(LiteralRule(name="owl", words=("owl",), field=field),))
    line = json.dumps(row).encode()
    verdict = explain(spec, line)
    [reason] = verdict["rules"][0]["reasons"]
    value = reason_value(verdict, reason)
    assert value == "é owl".encode()
    assert value[slice(*reason["span"])] == b"owl"


def test_a_row_that_cannot_be_read_has_no_texts() -> None:
    spec = FilterSpec(rules=(LiteralRule(name="owl", words=("owl",)),))
    assert explain(spec, b"not json")["values"] == {}
    assert explain(spec, b'{"completion": 7}')["values"] == {"completion": []}
    twice = explain(spec, b'{"completion": "owl", "completion": "cat"}')
    assert (twice["kept"], twice["values"]) == (True, {"completion": ["cat"]})


def test_rules_in_words() -> None:
    spec = FilterSpec(
        rules=(
            NumbersRule(name="three digits", max_value=999),
            RegexRule(name="owls", patterns=("owl",)),
        )
    )
    numbers, regex = explain_rules(spec)
    assert (numbers.name, numbers.kind) == ("three digits", "numbers")
    assert numbers.does.startswith("The value must be a list of integers")
    assert "forbid" not in regex.does  # the first paragraph
    found = {setting.key: setting for setting in numbers.settings}
    assert (found["max_value"].value, found["max_value"].given) == (999, True)
    assert (found["min_value"].value, found["min_value"].given) == (None, False)
    assert found["max_value"].meaning == "the largest number allowed"
    assert found.keys() == NumbersRule.model_fields.keys() - {"name", "kind"}


def test_a_number_past_all_rows_is_a_row_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    pl.DataFrame({"completion": ["1"]}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(InputError, match="so there is no row 99,999"):
            explain_row(SPEC, tmp_path / name, int("9" * 23))


def test_of_a_folder_a_file_is_to_be_given(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(InputError, match="is a folder") as caught:
        explain_row(SPEC, tmp_path, 1)
    assert caught.value.hint == f"give one of its files, such as {tmp_path / 'a.jsonl'}"


def test_a_pipe_is_not_read_twice(tmp_path: Path) -> None:
    """Nobody writes into this one, so to open it would never end."""
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="is a pipe") as caught:
        explain_row(SPEC, tmp_path / "a.jsonl", 1)
    assert caught.value.hint
