"""How a pair of rows becomes a question."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from subl.artifact import StageSpec

PLACES = ("prompt", "first", "second")


class PairSpec(StageSpec):
    """Two answers to one prompt, of `rows` and of `against`, in an order that a coin decides.

    A question has the keys `question`, and `right` and `wrong`: A or B, whichever stands for the
    first or second answer. A trait whose `file` has these columns and whose `choices` are "texts"
    measures how often a model is right.
    """

    format_version: ClassVar = 1
    packages: ClassVar = ()

    template: str = Field(
        description="what is asked; {prompt}, {first} and {second} stand for what they are called"
    )
    rows: int | None = Field(None, gt=0, description="how many pairs, drawn; default: all")
    seed: int = Field(0, ge=0, description="of the orders, and of the draw")

    @model_validator(mode="after")
    def _has_all_places(self) -> Self:
        if missing := [place for place in PLACES if f"{{{place}}}" not in self.template]:
            raise ValueError(f"`template` has no place for {{{missing[0]}}}")
        return self
