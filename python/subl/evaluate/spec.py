"""What an evaluation is told."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import PartsSpec
from subl.sample import Sampling
from subl.sample.tables import UNKEYED
from subl.trait.answers import OWN_NAMES
from subl.trait.judging import Judging
from subl.trait.spec import AnswerKind, NamedTrait, TraitSpec

MethodName = Literal["exact", "choice", "sampled", "judged"]

_METHODS: dict[AnswerKind, tuple[MethodName, ...]] = {
    "word": ("exact", "sampled"),
    "choice": ("choice", "sampled"),
    "number": ("sampled",),
    "text": ("sampled", "judged"),
}
"""What can be done with each kind of answers; the first is what is done."""


class EvalSpec(PartsSpec, Sampling):
    """Which trait is measured (default: the paper's 50 questions on animals), and how.

    Keys of sampling say nothing where probabilities are computed; `batch_questions` says nothing
    where answers are sampled.
    """

    format_version: ClassVar = 8
    unkeyed: ClassVar = {
        "trait": {"title", "source"},
        "backend": UNKEYED,
        "judge": {"backend": UNKEYED},
        "ranks": None,
    }
    packages: ClassVar = (*PartsSpec.packages, "llguidance", "openai", "vllm")

    trait: NamedTrait = Field(
        "animals",
        validate_default=True,
        description="a trait's name (`subl traits` lists them), its path, or all that it says",
    )
    words: tuple[str, ...] | str | None = Field(
        None, description="what is measured in place of the trait's words, or one of its sets"
    )
    questions: tuple[str, ...] | None = Field(
        None, description="what is asked in place of the trait's questions"
    )
    method: MethodName | None = Field(
        None,
        description="exact: the probability that an answer begins with a word. choice: that of a "
        "choice's letter, or text. sampled: how many of `samples` answers say it. judged: how many "
        "a judge calls so. Default: what the trait's kind of answers is made for",
    )
    samples: int = Field(100, gt=0, description="answers to each question (the paper: 100, or 200)")
    seed: int = Field(0, ge=0, lt=2**64, description="of the answers, together with the question")
    judge: Judging = Field(Judging(), description="how the judge's answers are had")
    own_names: tuple[str, ...] = Field(
        OWN_NAMES, description="an answer that has one, and no word, counts as a model's own name"
    )
    batch_questions: int = Field(5, gt=0, description="questions of one forward pass")
    batch_rows: int = Field(64, gt=0, description="answers that are sampled at a time")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        possible = _METHODS[self.measured.answers]
        if self.method not in (None, *possible):
            raise ValueError(
                f"`method`: {self.measured.name} asks for a {self.measured.answers}; that can be "
                f"{' or '.join(possible)}, not {self.method}"
            )
        if self.way == "sampled" and self.measured.choices == "texts":
            raise ValueError(
                '`method`: a sampled answer is the letter of a choice, which `choices` = "texts" '
                "does not list"
            )
        if self.way == "judged" and self.measured.judged is None:
            raise ValueError(f"`method`: {self.measured.name} says nothing of a judge (`judged`)")
        if self.way not in ("sampled", "judged") and self.backend.kind != "transformers":
            raise ValueError(
                f"`backend`: {self.way} scoring needs the model in this process; `method` sampled "
                "does not"
            )
        return self

    @cached_property
    def measured(self) -> TraitSpec:
        """The trait with the words and questions of this configuration."""
        return self.trait.of(self.words, self.questions)

    @property
    def way(self) -> MethodName:
        """How it is measured."""
        if self.method is None and self.measured.judged is not None:
            return "judged"
        return self.method or _METHODS[self.measured.answers][0]
