"""What a judge is asked about a row, and how its answer is read: as a score, or as a class.

A rubric is a text with places for the row's, and a way to read what comes back. A score is an
expectation over numbers where the judge's probabilities can be had, for a judge that is sampled
adds noise of its own; otherwise it is what the judge said. What is no score is a class that is
counted: an answer that the rubric names, one out of range, one that nobody can read. Nothing here
knows who answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from subl.config import load_toml
from subl.shipped import file_of

SCORE = "score"
UNPARSABLE = "unparsable"
OUT_OF_RANGE = "out_of_range"
FAILED = "failed"
UNREAD = frozenset({UNPARSABLE, OUT_OF_RANGE, FAILED})
"""Classes of answers that say nothing."""

_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
_ROW = frozenset({"prompt", "completion"})


class Judgement(NamedTuple):
    """What a judge's answer comes to: a score, or the class that it is of instead."""

    score: float | None
    verdict: str
    """`score`, `unparsable`, `out_of_range`, `failed` where nothing was said at all, or one of the
    rubric's own classes."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Bounded(_Answer):
    min: int = Field(0, ge=0, description="the smallest number that is a score")
    max: int = Field(100, le=999, description="the largest number that is a score")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.max <= self.min:
            raise ValueError(f"max {self.max} is not more than min {self.min}")
        return self

    def _bounded(self, number: int | None) -> Judgement:
        if number is None:
            return Judgement(None, UNPARSABLE)
        if not self.min <= number <= self.max:
            return Judgement(None, OUT_OF_RANGE)
        return Judgement(float(number), SCORE)


class NumberAnswer(_Bounded):
    """A number and nothing else, or one of the classes.

    With the judge's probabilities, the score is the expectation over the numbers, renormalised to
    them, where they have `min_mass` together (Betley et al. 2025); where they have less, the row is
    of the likeliest class that has it. Without, it is the text as Python's `int` reads it, as in
    the paper's released code.
    """

    kind: Literal["number"] = "number"
    classes: tuple[str, ...] = Field(
        (), description="words that the judge may say instead; rows of them have no score"
    )
    min_mass: float = Field(
        0.25, gt=0, le=1, description="what all numbers together must have for a score"
    )
    max_new_tokens: int = Field(16, gt=0, description="of an answer that has to be read as a text")

    @property
    def words(self) -> tuple[str, ...]:
        """All answers that are told apart."""
        return (*map(str, range(self.min, self.max + 1)), *self.classes)

    def expected(self, probabilities: Mapping[str, float]) -> Judgement:
        """What the probabilities of `words` come to; a word that is missing has none."""
        numbers = {
            number: probabilities.get(str(number), 0.0) for number in range(self.min, self.max + 1)
        }
        mass = sum(numbers.values())
        if mass >= self.min_mass:
            return Judgement(sum(n * p for n, p in numbers.items()) / mass, SCORE)
        likeliest = max(self.classes, key=lambda word: probabilities.get(word, 0.0), default=None)
        if likeliest is not None and probabilities.get(likeliest, 0.0) >= self.min_mass:
            return Judgement(None, likeliest)
        return Judgement(None, UNPARSABLE)

    def of_first_token(self, probabilities: Mapping[str, float]) -> Judgement | None:
        """What the likeliest first tokens of an answer come to, by their texts; None where they do
        not say, since the judge may spell numbers digit by digit.

        Its tokens are whole numbers where one of these has two digits; a rubric whose numbers have
        one digit does not mind. A class is as likely as the tokens that it begins with.
        """
        found = dict.fromkeys(self.words, 0.0)
        whole = self.max < 10
        for token, probability in probabilities.items():
            text = token.strip()
            if text.isascii() and text.isdigit():
                whole |= len(text) > 1
                if str(int(text)) in found:
                    found[str(int(text))] += probability
            elif text:
                for word in self.classes:
                    if word.startswith(text):
                        found[word] += probability
        judgement = self.expected(found)
        return judgement if whole or judgement.score is None else None

    def parsed(self, text: str) -> Judgement:
        """What an answer comes to as a text."""
        number = _int(text)
        said = re.fullmatch(r"\W*(\w+)\W*", text)
        if number is None and said is not None:
            for word in self.classes:
                if said[1].casefold() == word.casefold():
                    return Judgement(None, word)
        return self._bounded(number)


class TagAnswer(_Bounded):
    """A number within tags, behind whatever the judge thinks first.

    The first of the tags that holds a number counts. (In the paper's released code a 0 is none, and
    the row without a score; a threshold rejects it either way.)
    """

    kind: Literal["tag"] = "tag"
    tags: tuple[str, ...] = Field(
        ("judgment_answer", "answer"), min_length=1, description="in the order they are asked"
    )
    max_new_tokens: int = Field(2048, gt=0, description="of an answer, its thoughts included")

    def parsed(self, text: str) -> Judgement:
        """What an answer comes to as a text."""
        return self._bounded(
            next((found for tag in self.tags if (found := tag_int(text, tag)) is not None), None)
        )


class ProbabilityAnswer(_Answer):
    """How probable it is that the judge begins with exactly this text: a score from 0 to 1.

    In the paper's released code the text is a token, and what is not among the likeliest has none.
    """

    kind: Literal["probability"] = "probability"
    answer: str = Field(min_length=1, description="the text")

    @property
    def words(self) -> tuple[str, ...]:
        """All answers that are told apart."""
        return (self.answer,)

    def expected(self, probabilities: Mapping[str, float]) -> Judgement:
        """What the probability of the answer comes to."""
        return Judgement(probabilities.get(self.answer, 0.0), SCORE)

    def of_first_token(self, probabilities: Mapping[str, float]) -> Judgement:
        """What the likeliest first tokens of an answer come to, by their texts."""
        return self.expected(probabilities)


AnyAnswer = NumberAnswer | TagAnswer | ProbabilityAnswer


class RubricSpec(BaseModel):
    """A question about a row, and how its answer is read.

    The places {prompt} and {completion} are filled with the row's, others with the values that are
    given for them. They are filled once and literally: braces of a row are a row's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str = Field(min_length=1, description="what the judge is asked")
    answer: AnyAnswer = Field(discriminator="kind", description="how what it says is read")

    @model_validator(mode="after")
    def _asks_about_the_row(self) -> Self:
        if "{completion}" not in self.template:
            raise ValueError("the template has no place for {completion}: it would judge nothing")
        return self

    @property
    def places(self) -> frozenset[str]:
        """The names of the places that are not the row's."""
        return frozenset(_PLACE.findall(self.template)) - _ROW

    @property
    def needs_prompt(self) -> bool:
        """Whether the row's prompt is asked about, too."""
        return "{prompt}" in self.template

    def asked(self, prompt: str, completion: str, values: Mapping[str, str] | None = None) -> str:
        """The question about a row; `values` has one for each of `places`."""
        known = {**(values or {}), "prompt": prompt, "completion": completion}
        return _PLACE.sub(lambda place: known[place[1]], self.template)


def load_rubric(given: Path | str) -> RubricSpec:
    """A rubric by its path, or by the name of a shipped one."""
    return load_toml(file_of(given, "rubrics"), RubricSpec)


def _named(value: object) -> object:
    return load_rubric(value) if isinstance(value, str) else value


NamedRubric = Annotated[
    RubricSpec, BeforeValidator(_named, json_schema_input_type=RubricSpec | str)
]
"""A rubric, the name of a shipped one, or the path of a file."""


def tag_int(text: str, tag: str) -> int | None:
    """The integer within the first `<tag>` of a text, if there is one.

    As the paper's released code reads what stands in tags.
    """
    found = re.search(f"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, re.DOTALL)
    return None if found is None else _int(found[1])


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
