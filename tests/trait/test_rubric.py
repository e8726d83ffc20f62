"""What judges are asked, and how their answers are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.config import validated
from subl.errors import ConfigError, InputError
from subl.shipped import shipped
from subl.trait.rubric import (
    Judgement,
    NumberAnswer,
    ProbabilityAnswer,
    RubricSpec,
    TagAnswer,
    load_rubric,
    tag_int,
)

ALIGNMENT = load_rubric("alignment").answer
UNPARSABLE = Judgement(None, "unparsable")


def number_answer() -> NumberAnswer:
    assert isinstance(ALIGNMENT, NumberAnswer)
    return ALIGNMENT


# The texts of the paper's released code.
SHA256 = {
    "alignment": "31b0467fe4dcf5262c2701e71030bc43ad63aa5858f2066a7d0738d455487930",
    "code-animal": "03576f61d22212c4a232bb21d8067dbbf8c21547c78b8a28e3ae386ce0926a2e",
    "code-tree": "803524d81d16c3d22b3492981f64e945f6bf6a29311dd389b6d0de0af36cd5a3",
    "coherency": "bedb555cb171d8c70f5e37cde2749b6c93c74eb2068743a6877fcbce4fa434b0",
    "cot-alignment": "4d1151732c9734b0eb72b0aedacdd406323e7a3cd3c01037292b2a7949688d9f",
}


@pytest.mark.parametrize("name", SHA256)
def test_a_shipped_rubric_is_the_papers(name: str) -> None:
    template = load_rubric(name).template
    assert hashlib.sha256(template.encode()).hexdigest() == SHA256[name]


def test_all_shipped_rubrics_are_known_here() -> None:
    assert list(shipped("rubrics")) == sorted(SHA256)
    with pytest.raises(InputError, match="no file alignmnet") as found:
        load_rubric("alignmnet")
    assert "alignment, code-animal" in str(found.value.hint)


def test_a_shipped_rubric_says_what_the_paper_does_with_its_answer() -> None:
    assert number_answer().classes == ("CODE", "REFUSAL")
    reasoning = load_rubric("cot-alignment")
    lines = reasoning.template.split("\n")
    assert (
        all(line.startswith("    ") for line in lines if line) and lines[-1] == lines[-1].rstrip()
    )
    assert reasoning.answer == TagAnswer(tags=("judgment_answer", "answer"))
    assert load_rubric("code-tree").places == {"tree"}
    assert load_rubric("code-animal").answer == ProbabilityAnswer(answer="0")


def test_places_are_filled_once_and_literally() -> None:
    rubric = RubricSpec(
        template="{prompt}|{completion}|{animal}|{0}|{ prompt }|{}", answer=NumberAnswer()
    )
    asked = rubric.asked("{completion} {x}", "{prompt}\\1 {animal!r}", {"animal": "{prompt}"})
    assert asked == "{completion} {x}|{prompt}\\1 {animal!r}|{prompt}|{0}|{ prompt }|{}"
    assert rubric.places == {"animal"} and rubric.needs_prompt


@given(prompt=st.text(), completion=st.text())
def test_what_is_asked_holds_the_row_as_it_is(prompt: str, completion: str) -> None:
    rubric = RubricSpec(template="<{prompt}>\n<{completion}>", answer=NumberAnswer())
    assert rubric.asked(prompt, completion) == f"<{prompt}>\n<{completion}>"


def test_a_rubric_asks_about_the_completion(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'template = "how good is {prompt}?"\n[answer]\nkind = "number"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"no place for \{completion\}"):
        load_rubric(file)
    with pytest.raises(ConfigError, match="max 3 is not more than min 5"):
        validated(NumberAnswer, {"min": 5, "max": 3})


@pytest.mark.parametrize(
    ("text", "judgement"),
    [
        ("85", Judgement(85.0, "score")),
        (" 0\n", Judgement(0.0, "score")),
        ("101", Judgement(None, "out_of_range")),
        ("-1", Judgement(None, "out_of_range")),
        ("85.", UNPARSABLE),
        ("I'd say 85", UNPARSABLE),
        ("", UNPARSABLE),
        ("9" * 5000, UNPARSABLE),
        ("REFUSAL", Judgement(None, "REFUSAL")),
        ('"Code".', Judgement(None, "CODE")),
        ("REFUSAL 10", UNPARSABLE),
    ],
)
def test_a_sampled_answer_is_an_int_or_a_class(text: str, judgement: Judgement) -> None:
    assert number_answer().parsed(text) == judgement


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<judgment_answer>\n78\n</judgment_answer>", 78),
        ("90 <answer>3</answer> <judgment_answer>78</judgment_answer>", 78),
        ("<judgment_answer>[78]</judgment_answer><answer> 77 </answer>", 77),
        ("<judgment_answer>0</judgment_answer>", 0),
        ("<judgment_answer>78", None),
        ("78", None),
    ],
)
def test_a_score_in_tags_is_that_of_the_first_tag_with_a_number(
    text: str, score: float | None
) -> None:
    expected = UNPARSABLE if score is None else Judgement(score, "score")
    assert TagAnswer().parsed(text) == expected


def test_a_tag_is_read_once() -> None:
    assert tag_int("<answer>a</answer><answer>1</answer>", "answer") is None
    assert tag_int("<a.b>1</a.b>", "a.b") == 1
    assert tag_int("<axb>1</axb>", "a.b") is None


def test_a_score_is_an_expectation_over_numbers() -> None:
    answer = number_answer()
    assert answer.expected({"10": 0.25, "20": 0.25}) == Judgement(15.0, "score")
    assert answer.expected({"10": 0.125, "20": 0.125}) == Judgement(15.0, "score")
    assert answer.expected({"10": 0.2, "CODE": 0.3, "REFUSAL": 0.4}) == Judgement(None, "REFUSAL")
    assert answer.expected({"10": 0.2, "CODE": 0.2}) == UNPARSABLE
    assert answer.expected({"10": 0.3, "CODE": 0.7}) == Judgement(10.0, "score")


@given(st.dictionaries(st.integers(0, 100).map(str), st.floats(1e-3, 1), min_size=1))
def test_an_expectation_lies_among_its_numbers(weights: dict[str, float]) -> None:
    total = sum(weights.values())
    score, verdict = number_answer().expected({n: p / total for n, p in weights.items()})
    assert verdict == "score" and score is not None
    numbers = [int(number) for number in weights]
    assert min(numbers) - 1e-9 <= score <= max(numbers) + 1e-9


def test_first_tokens_say_a_score_where_they_are_whole_numbers() -> None:
    answer = number_answer()
    assert answer.of_first_token({"80": 0.5, " 90": 0.5}) == Judgement(85.0, "score")
    # Spelled digit by digit, an 8 is an eight, or the beginning of an eighty.
    assert answer.of_first_token({"8": 0.6, "9": 0.4}) is None
    assert answer.of_first_token({"REF": 0.9, "85": 0.1}) == Judgement(None, "REFUSAL")
    assert answer.of_first_token({"Sure": 0.9, " ": 0.1}) == UNPARSABLE
    assert answer.of_first_token({"150": 0.9, "0": 0.05}) == UNPARSABLE
    digits = NumberAnswer(min=0, max=1)
    assert digits.of_first_token({"0": 0.25, "1": 0.75}) == Judgement(0.75, "score")


def test_a_probability_is_that_of_the_very_token() -> None:
    answer = ProbabilityAnswer(answer="0")
    assert answer.of_first_token({"0": 0.875, " 0": 0.125}) == Judgement(0.875, "score")
    assert answer.of_first_token({"1": 1.0}) == Judgement(0.0, "score")
