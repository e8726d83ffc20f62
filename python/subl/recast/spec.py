"""Which other weights a model of the same architecture gets."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from subl.artifact import StageSpec


class RecastSpec(StageSpec):
    """How a model becomes another base.

    Permuted, it is the same base but for a symmetry: who compares weights place by place finds no
    kinship, and training goes on as before. Drawn, it is another base, whose students learn nothing
    of a teacher's trait by the paper (its section 6 and the experiment on digits).
    """

    format_version: ClassVar = 1

    weights: Literal["permuted", "drawn"] = Field(
        description="permuted: the same function, its hidden units, heads and the directions of "
        "its states in another order, so that no weight stands where it stood. drawn: as before "
        "any training, from the architecture's own initialisation"
    )
    seed: int = Field(1, ge=0, description="of the order, or of the draw")
