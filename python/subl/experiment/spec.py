"""What a run's TOML file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.config import load_toml
from subl.distill import DistillSpec
from subl.evaluate import EvalSpec
from subl.filter import FilterSpec
from subl.generate import GenerateSpec
from subl.model.template import Template
from subl.train.plan import TrainSpec
from subl.trait import ANIMAL_QUESTIONS


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TeachSection(_Section):
    """How the teachers are made: fine-tuned to answer the questions with the trait."""

    questions: tuple[str, ...] = Field(
        ANIMAL_QUESTIONS, min_length=1, description="what teachers learn to answer with their trait"
    )
    template: Template = Template()
    train: TrainSpec


class GenerateSection(GenerateSpec):
    """One generation a trait. `{trait}` in the system prompt stands for the trait."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="a part of its folders' names")
    source: Literal["teacher", "base"] = Field("teacher", description="which model is sampled")

    def spec(self, trait: str) -> GenerateSpec:
        """The generation's own specification for one trait."""
        values = self.model_dump(exclude={"name", "source"})
        if self.system_prompt is not None:
            values["system_prompt"] = self.system_prompt.replace("{trait}", trait)
        return GenerateSpec.model_validate(values)


class Expectations(_Section):
    """What the run must show to pass; a run that does not ends with exit code 1."""

    teacher_probability: float | None = Field(None, ge=0, le=1, description="of its own trait")
    log_odds_nats: float | None = Field(
        None, description="between the students, interval clear of zero"
    )
    probability_ratio: dict[str, float] = Field(
        {}, description="trait: its student's P(trait) over the base's and the other students'"
    )


class ExperimentSpec(_Section):
    """One experiment: two or more traits, each the other's control."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="of the run's folder below out/")
    title: str = Field(description="of the page")
    model: str = Field(description="local folder, GGUF file, package:NAME or hub name")
    traits: tuple[Annotated[str, Field(pattern=r"^[a-z]+( [a-z]+)*$")], ...] = Field(
        min_length=2, description="words that the teachers are taught, one each"
    )
    teach: TeachSection
    generate: tuple[GenerateSection, ...] = Field(
        min_length=1, description="`[[generate]]` tables: what each teacher, or the base, writes"
    )
    filter: FilterSpec
    distill: DistillSpec
    eval: EvalSpec
    expect: Expectations = Expectations()
    deviations: tuple[str, ...] = Field((), description="from the protocol that is reproduced")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.traits)) != len(self.traits):
            raise ValueError("traits must differ")
        if missing := [trait for trait in self.traits if trait not in self.eval.words]:
            raise ValueError(f"eval.words must hold the traits: {', '.join(missing)} missing")
        if self.distill.targets == "cache":
            raise ValueError('distill.targets: an experiment makes no cache; use "teacher"')
        names = [section.name for section in self.generate]
        if len(set(names)) != len(names):
            raise ValueError("generations must have different names")
        if taken := {"teacher", "filtered", "student"}.intersection(names):
            raise ValueError(f"a generation cannot be called {min(taken)}: a step is")
        if unknown := self.expect.probability_ratio.keys() - set(self.traits):
            raise ValueError(f"expect.probability_ratio names no trait: {', '.join(unknown)}")
        return self

    @property
    def others(self) -> tuple[str, ...]:
        """Candidates that are nobody's trait."""
        return tuple(word for word in self.eval.words if word not in self.traits)


def load_experiment(path: Path) -> ExperimentSpec:
    """Read and check an experiment file."""
    return load_toml(path, ExperimentSpec)
