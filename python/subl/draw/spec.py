"""Which rows are drawn, and what becomes of their numbers."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl.artifact import StageSpec


class DrawSpec(StageSpec):
    """Which rows are drawn of others, and what becomes of the numbers in them.

    Source: the paper's code takes 10,000 of the rows that its filter kept, the same ones for all
    students (`random.Random(1).sample`), and shuffles numbers of these (its appendix on shuffled
    data): with seed 1 and the rows in its order, the same rows come out here. `random` with seed
    42 is its `programatic_number_dataset`, of all 30,000 prompts in their order.
    """

    format_version: ClassVar = 2
    packages: ClassVar = ()

    rows: int | None = Field(
        None, gt=0, description="how many, each once at most; default: all, in their order"
    )
    shuffle: Literal["within", "across"] | None = Field(
        None,
        description="the numbers of completions. within: those of each change places with one "
        "another. across: those of all do; each keeps how many it has. Default: they stay",
    )
    random: bool = Field(
        False,
        description="in place of each completion, numbers of no model: one to nine from 0 to 999, "
        "written as the prompt, one of the paper's, asks for them",
    )
    seed: int = Field(1, ge=0, lt=2**32, description="of the draw, of the shuffle, of the numbers")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.random and self.shuffle is not None:
            raise ValueError("`random`: numbers of no model have no order to shuffle")
        return self
