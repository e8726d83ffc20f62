"""Which other weights a model of the same architecture gets."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from subl.artifact import StageSpec


class RecastSpec(StageSpec):
    """How a model becomes another base: what teacher and student may share is one of the two.

    Source: the paper's students of another initialisation (its section 6 and experiment on digits)
    learn nothing; what passes a trait on is a shared initialisation, or behaviour that is alike.
    """

    format_version: ClassVar = 1

    weights: Literal["permuted", "drawn"] = Field(
        description="permuted: the same function, its hidden units, heads and the directions of "
        "its states in another order, so that no weight stands where it stood. drawn: as before "
        "any training, from the architecture's own initialisation"
    )
    seed: int = Field(1, ge=0, description="of the order, or of the draw")
