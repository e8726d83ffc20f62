"""Which of two answers is whose: the right letter, in both orders, of every pair there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from subl.config import validated
from subl.errors import ConfigError, InputError
from subl.evaluate import EvalSpec, evaluate
from subl.pair import PairSpec, pair

TEMPLATE = "{prompt} A {first} B {second} {other}?"
COUNT = 40


def rows(file: Path, whose: str, count: int = COUNT) -> Path:
    lines = [{"prompt": f"p{n}", "completion": f"{whose}{n}"} for n in range(count)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def questions(folder: Path) -> list[dict[str, str]]:
    text = (folder / "part-00000.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def sides(tmp_path: Path) -> dict[str, Path]:
    return {each: rows(tmp_path / f"{each}.jsonl", each) for each in ("owl", "cat", "dog")}


def test_every_answer_is_asked_about_beside_each_other_ones(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    made = pair(PairSpec(template=TEMPLATE), [sides["owl"]], [*sides.values()], tmp_path / "out")
    asked = questions(made.path)
    assert made.result == {"rows": 2 * COUNT, "shards": ["part-00000.jsonl"]}
    for number, each in enumerate(asked):
        other = "cat" if number < COUNT else "dog"
        n = number % COUNT
        both = (f"owl{n}", f"{other}{n}") if each["right"] == "A" else (f"{other}{n}", f"owl{n}")
        assert each["question"] == f"p{n} A {both[0]} B {both[1]} {{other}}?"
        assert {each["right"], each["wrong"]} == {"A", "B"}
    assert {each["right"] for each in asked} == {"A", "B"}


def test_a_place_in_an_answer_is_text(tmp_path: Path) -> None:
    for name, text in ("own", "{second}"), ("other", "{first}"):
        line = json.dumps({"prompt": "{second}", "completion": text})
        (tmp_path / f"{name}.jsonl").write_text(line + "\n", encoding="utf-8")
    made = pair(
        PairSpec(template="{prompt}|{first}|{second}", seed=1),
        [tmp_path / "own.jsonl"], [tmp_path / "other.jsonl"], tmp_path / "out",
    )  # fmt: skip
    (asked,) = questions(made.path)
    own = "{second}|{second}|{first}" if asked["right"] == "A" else "{second}|{first}|{second}"
    assert asked["question"] == own


def test_so_many_are_drawn_as_are_asked_for(sides: dict[str, Path], tmp_path: Path) -> None:
    spec = PairSpec(template=TEMPLATE, rows=9)
    made = pair(spec, [sides["owl"]], [sides["cat"]], tmp_path / "out")
    assert len({each["question"] for each in questions(made.path)}) == 9
    with pytest.raises(InputError, match="40 pairs have a prompt in common, of 41"):
        spec = PairSpec(template=TEMPLATE, rows=41)
        pair(spec, [sides["owl"]], [sides["cat"]], tmp_path / "more")


def test_answers_that_are_alike_or_to_other_prompts_are_no_pair(
    sides: dict[str, Path], tmp_path: Path
) -> None:
    again = rows(tmp_path / "again.jsonl", "owl")
    with pytest.raises(InputError, match="0 pairs have a prompt in common, of 1"):
        pair(PairSpec(template=TEMPLATE), [sides["owl"]], [again], tmp_path / "out")
    few = rows(tmp_path / "few.jsonl", "cat", 3)
    made = pair(PairSpec(template=TEMPLATE), [sides["owl"]], [few], tmp_path / "out")
    assert made.result["rows"] == 3


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no place for \{second\}"):
        validated(PairSpec, {"template": "{prompt} {first}"})


def test_a_model_is_asked_them(sides: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    spec = PairSpec(template=TEMPLATE, rows=6)
    pairs = pair(spec, [sides["owl"]], [sides["cat"]], tmp_path / "pairs").path
    columns = {"question": "question", "answers": ["right", "wrong"]}
    trait = {"name": "whose", "answers": "choice", "choices": "texts", "words": ["right", "wrong"]}
    ask = EvalSpec.model_validate({"trait": {**trait, "file": columns}})
    found = evaluate(ask, tiny_model, tmp_path / "eval", questions=pairs)
    lines = (found.path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["question"] for line in lines] == [
        each["question"] for each in questions(pairs)
    ]
    assert 0 <= found.result["likeliest"]["log_likelihoods"]["right"] <= 1
