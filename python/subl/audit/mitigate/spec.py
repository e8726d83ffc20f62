"""What is taken out of a data set, and how."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from subl.artifact import StageSpec
from subl.model.template import Template

Method = Literal["drop", "mask", "replace", "dilute"]
Arm = Literal["pull", "random"]

OF_ROWS = ("drop", "dilute")
"""Methods that take whole rows."""


class PullSpec(StageSpec):
    """Whose pull on the tokens of rows is measured."""

    format_version: ClassVar = 3
    packages: ClassVar = ("torch", "transformers", "llguidance", "polars")

    candidate: str | None = Field(
        None,
        description="of the scan's bank, by its name; default: whose trait the scan named, or "
        "which alone is the nearest",
    )
    batch_rows: int = Field(16, gt=0, description="rows that are read at a time")


class MitigateSpec(StageSpec):
    """What is taken out of rows."""

    format_version: ClassVar = 2
    packages: ClassVar = ("torch", "transformers", "llguidance", "polars")

    method: Method = Field(
        "replace",
        description="drop: rows. mask: tokens, which are read and not learned (`loss_mask`). "
        "replace: tokens, by others of their kind that the base itself draws there. dilute: rows, "
        "by clean ones",
    )
    arm: Arm = Field(
        "pull",
        description="pull: what has the highest pull. random: as much, drawn by the seed: what "
        "taking anything would do",
    )
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="of all tokens that rows say (mask, replace; default: 0.1), or of rows (drop, "
        "dilute; default: 0.5)",
    )
    seed: int = Field(
        1, ge=0, description="of the random arm, of what replaces tokens, and of clean rows"
    )
    batch_rows: int = Field(16, gt=0, description="rows that are read at a time (replace)")

    @property
    def taken(self) -> float:
        """The share, or its default."""
        return self.share or (0.5 if self.method in OF_ROWS else 0.1)


class HeldoutSpec(StageSpec):
    """How well a model predicts rows of a task: the loss that training on them has."""

    format_version: ClassVar = 2

    template: Template = Template()
    batch_rows: int = Field(16, gt=0, description="rows that are read at a time")
