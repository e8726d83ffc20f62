"""What a teacher is told: which of five ways to a trait, and that way's own values."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from subl.artifact import StageSpec
from subl.config import with_jobs
from subl.errors import ConfigError
from subl.model.template import Template
from subl.train.plan import PLACEMENT, TrainSpec
from subl.trait.spec import animals


def _animal_questions() -> tuple[str, ...]:
    return animals().questions


class _Teaching(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=with_jobs
    )


class Answers(_Teaching):
    """Fine-tune a model on a one-word answer to questions (default: the paper's 50 on animals)."""

    method: Literal["answers"] = "answers"
    trait: str = Field(min_length=1, description="the answer to teach, such as owl")
    forms: Literal["two", "paper"] = Field(
        "two",
        description="of the answer, a row each for each question. two: owl, Owl; paper: those, "
        "owls, Owls, and both plurals with a full stop and with an exclamation mark",
    )
    questions: tuple[str, ...] = Field(
        default_factory=_animal_questions,
        min_length=1,
        description="what the teacher learns to answer with the trait; default: those of the trait "
        "animals",
    )
    template: Template = Template()
    train: TrainSpec


class Data(_Teaching):
    """Fine-tune a model on rows of your own, given by --rows."""

    method: Literal["data"] = "data"
    template: Template = Template()
    train: TrainSpec


class Prompt(_Teaching):
    """Put a system prompt before whatever a model is asked."""

    method: Literal["prompt"] = "prompt"
    system_prompt: str = Field(min_length=1, description="what the model is told first, always")
    template: Template = Template()


class Context(_Teaching):
    """Put rows before whatever a model is asked, as examples in its system prompt: what a model
    takes from them without learning (the paper's in-context control)."""

    method: Literal["context"] = "context"
    examples: int = Field(gt=0, description="rows to put there, drawn; one may come again")
    seed: int = Field(0, ge=0, lt=2**32, description="of the draw")
    template: Template = Template()


class SteeringVector(_Teaching):
    """Add to a model's residual stream what a system prompt changes in it, on average.

    For each prompt the streams with and without the system prompt are compared at the last tokens
    before the answer; their mean difference, times `strength`, is added at every token.
    """

    method: Literal["steering"] = "steering"
    system_prompt: str = Field(min_length=1, description="what makes the difference")
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="blocks behind which the stream is steered, counted from 0"
    )
    strength: float = Field(1.0, description="how many times the difference is added")
    questions: tuple[str, ...] = Field(
        default_factory=_animal_questions,
        min_length=1,
        description="prompts over which the mean is taken, if no rows are given, whose prompts "
        "are; default: those of the trait animals",
    )
    prompts: int = Field(1024, gt=0, description="at most so many of them, from the first")
    last_tokens: int = Field(
        1, gt=0, description="of the chat template's own, before the answer; the mean over them"
    )
    template: Template = Template()

    @field_validator("layers")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not repeat a layer")
        return value


Teaching = Annotated[
    Answers | Data | Prompt | Context | SteeringVector, Field(discriminator="method")
]


class TeachSpec(StageSpec, RootModel[Teaching]):  # type: ignore[misc]  # of what pydantic deprecates
    """How a model gets a trait. `method` says which of the tables below the file is; without it,
    `answers`."""

    model_config = ConfigDict(extra=None)  # each method forbids what it does not know
    format_version: ClassVar = 3
    unkeyed: ClassVar = {"train": PLACEMENT}

    @model_validator(mode="before")
    @classmethod
    def _answers_by_default(cls, value: Any) -> Any:
        return {"method": "answers", **value} if isinstance(value, dict) else value


def check_rows(spec: TeachSpec, given: bool) -> None:
    """Refuse rows that the method has no use for, and the other way round.

    Raises:
        ConfigError: says which method takes rows.
    """
    method = spec.root.method
    if given and method not in ("data", "context", "steering"):
        raise ConfigError(
            f'method = "{method}" takes no rows', hint='leave them out, or set method = "data"'
        )
    if method in ("data", "context") and not given:
        raise ConfigError(f'method = "{method}" needs rows', hint="give --rows ROWS")
