"""Which rows are drawn, and what becomes of their numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from subl.artifact import StageSpec


class DrawSpec(StageSpec):
    """Which rows are drawn of others, and what becomes of the numbers in them.

    Source: the paper's code takes 10,000 of the rows that its filter kept, the same ones for all
    students (`random.Random(1).sample`), and shuffles numbers of these (its appendix on shuffled
    data): with seed 1 and the rows in its order, the same rows come out here.
    """

    format_version: ClassVar = 1
    packages: ClassVar = ()

    rows: int | None = Field(
        None, gt=0, description="how many, each once at most; default: all, in their order"
    )
    shuffle: Literal["within", "across"] | None = Field(
        None,
        description="the numbers of completions. within: those of each change places with one "
        "another. across: those of all do; each keeps how many it has. Default: they stay",
    )
    seed: int = Field(1, ge=0, description="of the draw, and of the shuffle")
