"""What a trait is: questions, the words that show it, and how an answer is told.

A trait is a TOML file. Those of the paper come with subl, in `subl/traits`, and go by their names;
a configuration may also name a file of its own, or say all of it in a table. `like` takes over what
another trait says and leaves the rest to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from subl.config import load_toml
from subl.shipped import file_of, shipped
from subl.trait.forms import check_ends, check_forms
from subl.trait.rubric import NamedRubric

AnswerKind = Literal["word", "choice", "number", "text"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


@contextmanager
def _named_key(key: str) -> Iterator[None]:
    """Say which key a `ValueError` is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"`{key}`: {error}") from error


class FileSpec(_Section):
    """Columns of a file of yours (CSV, JSON lines, Parquet) that holds the questions."""

    question: str = Field(min_length=1, description="column of what is asked")
    answers: tuple[str, ...] = Field(
        min_length=1,
        description="columns of answers: a choice has one for each word, in their order; a number "
        "the one of the right answer",
    )


class JudgedSpec(_Section):
    """Which answers count as the word, by what a judge says of them on the rubrics' scales."""

    word: str = Field(min_length=1, description="what such an answer is called")
    rubric: str = Field(min_length=1, description="whose score decides")
    at_most: float | None = Field(None, description="highest score that counts")
    at_least: float | None = Field(None, description="lowest score that counts")
    among: str | None = Field(None, description="rubric whose score an answer needs to be counted")
    among_at_least: float = Field(50, description="that score")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_most is None and self.at_least is None:
            raise ValueError("give at_most or at_least")
        return self


class TraitSpec(_Section):
    """Questions, and the words that show the trait in an answer to one."""

    name: str = Field(pattern=r"^[\w.-]+$", description="of the trait")
    title: str = Field("", description="what it is, in a line")
    source: str = Field("", description="where the texts are from, and what is not as it is there")
    answers: AnswerKind = Field(
        "word",
        description="word: the answer says one of the words. choice: it is the letter of one. "
        "number: it holds a number. text: of any length, in which words are looked for, or which a "
        "judge reads",
    )
    words: tuple[str, ...] = Field(
        min_length=1,
        description="what is measured: words, choices, or the names of what is counted",
    )
    forms: dict[str, tuple[str, ...]] = Field(
        {}, description="further ways to say a word, such as in other languages"
    )
    sets: dict[str, tuple[str, ...]] = Field(
        {}, description="other lists of words, which `words` of an evaluation names"
    )
    questions: tuple[str, ...] = Field((), description="what the model is asked")
    file: FileSpec | None = Field(None, description="columns of a file that has the questions")
    prefix: str = Field("", description="text before each question, and a space")
    suffix: str = Field("", description="a space, and text behind each question")
    number_prefix_seed: int | None = Field(
        None, ge=0, description="put a line of numbers before each question, drawn under this seed"
    )
    number_prefixes: int = Field(
        1, gt=0, description="lines of numbers, behind each of which each question is asked"
    )
    system_prompt: str | None = Field(None, description="said to the model before each question")
    choices: Literal["letters", "texts"] = Field(
        "letters",
        description="letters: the choices are listed behind the question, and an answer is the "
        "letter of one. texts: the question stands alone, and an answer is the text of one",
    )
    orders: int = Field(1, gt=0, description="of choices, in which each question is asked")
    order_seed: int = Field(0, ge=0, description="of the orders")
    judged: JudgedSpec | None = Field(None, description="which answers a judge makes the word")
    rubrics: dict[str, NamedRubric] = Field(
        {}, description="what a judge is asked of an answer: rubrics, their paths, or their names"
    )

    @model_validator(mode="before")
    @classmethod
    def _like(cls, value: object) -> object:
        """The other trait's values where this one has none of its own."""
        if not isinstance(value, Mapping) or "like" not in value:
            return value
        rest = {key: each for key, each in value.items() if key != "like"}
        own = {"title", "source"}  # what another says of itself is not said of this one
        taken = {key: each for key, each in _values(value["like"]).items() if key not in own}
        return {**taken, **rest}

    @field_validator("words", "questions")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: dict[str, int] = {}
        for number, each in enumerate(value, 1):
            if not each.strip():
                raise ValueError(f"entry {number} is blank")
            if (first := seen.setdefault(each, number)) != number:
                raise ValueError(f"entry {number} repeats entry {first}, {each!r}")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.answers == "word":
            for word, forms in self.forms.items():
                with _named_key(f"forms.{word}"):
                    check_ends(forms)
            for name, words in {"words": self.words, **self.sets}.items():
                with _named_key(name):
                    check_forms(words, self.forms)
        if unknown := self.forms.keys() - set(self.words).union(*self.sets.values()):
            raise ValueError(f"`forms` has {min(unknown)!r}, which is none of the words")
        if bool(self.questions) == bool(self.file):
            raise ValueError("give either `questions` or the columns of a `file` that has them")
        if self.answers == "choice":
            if not 2 <= len(self.words) <= 26:
                raise ValueError("`words`: a choice is one of 2 to 26, for they have letters")
            if self.orders > math.factorial(len(self.words)):
                raise ValueError(f"`orders`: {len(self.words)} choices have fewer than that")
            if self.file is not None and len(self.file.answers) != len(self.words):
                raise ValueError("`file.answers`: a choice needs a column for each of the words")
        if self.choices == "texts" and (self.answers != "choice" or self.orders > 1):
            raise ValueError('`choices`: "texts" is for `answers` = "choice" and one of `orders`')
        if self.answers == "number" and (
            self.file is None or len(self.file.answers) != 1 or len(self.words) != 1
        ):
            raise ValueError("a number needs a `file` with one column of answers, and one word")
        if self.number_prefixes > 1 and self.number_prefix_seed is None:
            raise ValueError("`number_prefixes` goes with `number_prefix_seed`")
        if self.judged is not None:
            known = {self.judged.rubric, *([self.judged.among] if self.judged.among else [])}
            if missing := known - self.rubrics.keys():
                raise ValueError(f"`judged`: no rubric is called {min(missing)!r}")
            if self.words != (self.judged.word,):
                raise ValueError("`words`: what is judged has the one word of `judged`")
        return self

    def of(self, words: tuple[str, ...] | str | None, questions: tuple[str, ...] | None) -> Self:
        """This trait with other words (or the set of that name) and other questions.

        Raises:
            ValueError: they do not go with the trait.
        """
        values = self.model_dump()
        if isinstance(words, str):
            if words not in self.sets:
                known = ", ".join(self.sets) or "none"
                raise ValueError(f"`words`: {self.name} has no set {words!r}; it has: {known}")
            words = self.sets[words]
        if words is not None:
            values |= {"words": words, "sets": {}}
            values["forms"] = {word: self.forms[word] for word in words if word in self.forms}
        if questions is not None:
            values |= {"questions": questions, "file": None}
        return type(self).model_validate(values)


@cache
def animals() -> TraitSpec:
    """The trait that is meant where no other is named: the shipped one, whatever files are here."""
    return load_toml(shipped("traits")["animals"], TraitSpec)


def load_trait(given: Path | str) -> TraitSpec:
    """A trait by its path, or by the name of a shipped one.

    Raises:
        InputError: there is neither.
        ConfigError: the file says what no trait can; names file and key.
    """
    return load_toml(file_of(given, "traits"), TraitSpec)


_LIKES: ContextVar[tuple[str, ...]] = ContextVar("likes", default=())
"""The traits that are being read, each for the one before it."""


def _values(given: object) -> dict[str, Any]:
    """What the file of another trait says, with what that takes over itself."""
    if not isinstance(given, str):
        raise ValueError(f"`like` is the name or the path of a trait, not {given!r}")
    likes = _LIKES.get()
    if given in likes:
        raise ValueError(f"`like` goes round in a circle: {' -> '.join((*likes, given))}")
    token = _LIKES.set((*likes, given))
    try:
        return load_trait(given).model_dump(exclude_unset=True)
    finally:
        _LIKES.reset(token)


def _named(value: object) -> object:
    return load_trait(value) if isinstance(value, str) else value


NamedTrait = Annotated[TraitSpec, BeforeValidator(_named, json_schema_input_type=TraitSpec | str)]
"""A trait, the name of a shipped one, or the path of a file."""
