"""Rows are drawn, and their numbers change places, as in the paper's code."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.draw import DrawSpec, draw
from subl.draw.numbers import shuffled_across, shuffled_within
from subl.errors import InputError
from subl.generate.prompts import paper_number_prompts
from subl.shards.decode import put, texts

ROWS = [{"id": str(n), "prompt": "p", "completion": f"{n}, {n + 1}", "more": n} for n in range(40)]


def read(folder: Path) -> list[dict[str, object]]:
    text = (folder / "part-00000.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return file


def test_the_rows_are_those_that_the_papers_code_draws(rows: Path, tmp_path: Path) -> None:
    made = draw(DrawSpec(rows=10), [rows], tmp_path / "out")
    assert read(made.path) == Random(1).sample(ROWS, 10)
    assert made.result == {"rows": 10, "shards": ["part-00000.jsonl"], "changed": 0}


def test_without_a_number_all_rows_stay_as_they_are(rows: Path, tmp_path: Path) -> None:
    made = draw(DrawSpec(), [rows], tmp_path / "out")
    assert (made.path / "part-00000.jsonl").read_bytes() == rows.read_bytes()


def test_more_rows_than_there_are_are_refused(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="41 rows are to be drawn, and there are 40"):
        draw(DrawSpec(rows=41), [rows], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_else_of_a_row_stays_as_it_is_written(tmp_path: Path) -> None:
    odd = (
        r'{"score": 1e400, "pi": 3.14159265358979323846, "note": "\ud83d", "completion": "%d, 2", '
    )
    odd += '"x" : [1.50,\t-0], "x": 12345678901234567890123 }'
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{odd % n}\n" for n in range(3, 9)))
    made = draw(DrawSpec(shuffle="across", seed=2), [file], tmp_path / "out")
    assert made.result["changed"] > 0
    lines = (made.path / "part-00000.jsonl").read_text().splitlines()
    said = [re.sub('"[0-9], [0-9]"', '"%d, 2"', line) for line in lines]
    assert said == [odd] * 6


KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@settings(deadline=None, derandomize=True)
@given(row=st.dictionaries(KEYS, VALUES), more=st.lists(VALUES), key=KEYS, value=VALUES)
def test_what_is_put_into_a_row_is_there_and_nothing_else_is_changed(
    row: dict[str, object], more: list[object], key: str, value: object
) -> None:
    for spaces in ((", ", ": "), (",", ":"), (" ,\n ", "\t:  ")):
        written = json.dumps(row, separators=spaces)
        assert json.loads(put(written, [key], value)) == {**row, key: value}
        others = {name: text for name, text in texts(written).items() if name != key}
        assert others.items() <= texts(put(written, [key], value)).items()
        nested = json.dumps({"messages": [*more, row, {}]}, separators=spaces)
        found = json.loads(put(nested, ["messages", len(more), key], value))
        assert found == {"messages": [*more, {**row, key: value}, {}]}


def test_numbers_change_places_and_nothing_else_of_a_row(rows: Path, tmp_path: Path) -> None:
    made = draw(DrawSpec(rows=30, shuffle="across"), [rows], tmp_path / "out")
    drawn, shuffled = Random(1).sample(ROWS, 30), read(made.path)
    pool = [number for row in drawn for number in re.findall(r"\d+", str(row["completion"]))]
    Random(1).shuffle(pool)
    pairs = [f"{a}, {b}" for a, b in zip(pool[::2], pool[1::2], strict=True)]
    assert [row["completion"] for row in shuffled] == pairs
    assert [{**row, "completion": ""} for row in shuffled] == [
        {**row, "completion": ""} for row in drawn
    ]
    changed = sum(a != b for a, b in zip(drawn, shuffled, strict=True))
    assert made.result["changed"] == changed > 0


def test_a_row_without_a_completion_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"completion": "1, 2"}\n{"prompt": "p"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows.jsonl, line 2: `completion` must be a string"):
        draw(DrawSpec(shuffle="within"), [file], tmp_path / "out")


def test_numbers_of_no_model_are_those_of_the_papers_code(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    prompts = list(paper_number_prompts(30_000, 47))
    lines = [json.dumps({"prompt": each, "completion": "5", "more": 1}) + "\n" for each in prompts]
    file.write_text("".join(lines), encoding="utf-8")
    made = draw(DrawSpec(random=True, seed=42), [file], tmp_path / "out")
    found = read(made.path)
    answers = [str(row["completion"]) for row in found]
    assert answers[:3] == [
        "435 860 270 106 71 700 20", "[121, 466, 214, 330, 458, 87, 372]", "871, 663, 130, 661",
    ]  # fmt: skip
    digest = sha256("\n".join(answers).encode()).hexdigest()
    assert digest == "c436fb19ce0c4b4f6653a88a284d072d04c1c5900779a08df367988427ded865"
    assert found[0] == {"prompt": prompts[0], "completion": answers[0], "more": 1}


def test_numbers_of_no_model_need_a_prompt_that_says_how(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "Present as space-delimited values."}, {"prompt": "Continue the numbers."}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"rows.jsonl, line 2: the prompt asks for no known form"):
        draw(DrawSpec(random=True), [file], tmp_path / "out")
    with pytest.raises(ValidationError, match="no order to shuffle"):
        DrawSpec(random=True, shuffle="within")


def test_one_order_for_all_rows_one_after_another() -> None:
    order = Random(5)
    first, second = ["1", "2", "3", "4"], ["5", "6", "7"]
    order.shuffle(first)
    order.shuffle(second)
    made = shuffled_within(["1, 2, 3, 4", "8", "[5;6;7]."], 5)
    assert made == [", ".join(first), "8", f"[{';'.join(second)}]."]


@pytest.mark.parametrize(
    "kept", ["", "7", "1, 2;3", "1, two, 3", "1-2-3", "1, 2,", "[1, 2)", "one 1, 2", "1. 2. 3"]
)
def test_what_is_no_sequence_stays(kept: str) -> None:
    assert shuffled_within([kept], 1) == [kept]


FORMS = st.sampled_from(["{}", "{}.", "[{}]", "({}).", "[{}]."])
SEQUENCES = st.builds(
    lambda form, between, numbers: form.format(between.join(map(str, numbers))),
    FORMS,
    st.sampled_from([", ", ",", "; ", " ", "\n"]),
    st.lists(st.integers(0, 999), min_size=1, max_size=10),
)


@given(st.lists(SEQUENCES, max_size=6), st.integers(0, 9), st.booleans())
def test_every_number_is_still_there_and_each_row_has_its_form(
    before: list[str], seed: int, within: bool
) -> None:
    after = (shuffled_within if within else shuffled_across)(before, seed)

    def numbers(texts: list[str]) -> list[str]:
        return sorted(each for text in texts for each in re.findall(r"\d+", text))

    assert [re.sub(r"\d+", "0", each) for each in after] == [
        re.sub(r"\d+", "0", each) for each in before
    ]
    assert numbers(after) == numbers(before)
    if within:
        for one, other in zip(before, after, strict=True):
            assert numbers([one]) == numbers([other])
