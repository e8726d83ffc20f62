"""What a prediction, and a calibration of predictions, are told."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from subl.artifact import StageSpec
from subl.audit.predict.features import Sample
from subl.distill import DistillSpec
from subl.evaluate import EvalSpec
from subl.train.plan import PLACEMENT

_PACKAGES = ("torch", "transformers", "llguidance", "numpy")


class PredictSpec(StageSpec):
    """By how much a planned training will shift a trait."""

    format_version: ClassVar = 3
    unkeyed: ClassVar = {"distill": {"train": PLACEMENT}}
    packages: ClassVar = _PACKAGES

    trait: str = Field(min_length=1, description="a word of the evaluation's list")
    distill: DistillSpec = Field(description="the planned training, as in distill.toml")
    eval: EvalSpec = Field(EvalSpec(), description="the planned evaluation, as in eval.toml")
    alpha: float = Field(0.1, gt=0, lt=1, description="share of runs that the interval may miss")
    pilot: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="updates of pilot runs with adapters, such as 8, 16 and 32; default: none"
    )
    sample: Sample | None = Field(
        None, description="what is looked at; default: as in the calibration"
    )

    @field_validator("pilot")
    @classmethod
    def _is_a_line(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value and len(set(value)) < 2:
            raise ValueError("a line through pilot runs needs two doses at least, such as [8, 16]")
        if twice := [each for each in value if value.count(each) > 1]:
            raise ValueError(f"{twice[0]} is named twice")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _is_measured(self) -> Self:
        if self.eval.way != "exact":
            raise ValueError(
                f"`eval`: predicted are exact probabilities of words, not what is {self.eval.way}"
            )
        if self.trait not in self.eval.measured.words:
            known = ", ".join(self.eval.measured.words)
            raise ValueError(f"`trait`: {self.trait!r} is no word of the evaluation ({known})")
        if len(self.eval.measured.words) < 2:
            raise ValueError("`eval`: log-odds are over other words, and there are none")
        return self


class CalibrateSpec(StageSpec):
    """How past runs calibrate predictions."""

    format_version: ClassVar = 2
    packages: ClassVar = _PACKAGES

    traits: tuple[str, ...] = Field(
        (), description="words that count as traits; default: all that a run was measured for"
    )
    split: Literal["seed", "data"] = Field(
        "seed",
        description="what runs must not share between the part that the rule is fitted on and the "
        "part that shows its errors: the seed of training, or the data set",
    )
    fit_share: float = Field(0.5, gt=0, lt=1, description="of the groups, for the rule")
    ridge: float = Field(0.05, ge=0, description="of the rule, beside features of mean square 1")
    sample: Sample = Field(Sample(), description="what is looked at of each run's data")
