"""What a training run does at each step, as pure functions of (plan, step).

No sampler, no scheduler object: the rows of a step come from `permutation(seed, epoch)`, its
learning rate from a formula. Every rank knows every row's length, so the number of target tokens
by which the loss is divided needs no communication.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSpec(BaseModel):
    """Hyper-parameters of one training run. Rows and learning rates are per optimiser step."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(gt=0)
    rows_per_step: int = Field(8, gt=0, description="rows of one step, over all ranks")
    micro_batch_rows: int = Field(8, gt=0, description="rows that one rank holds at once")
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(2, ge=0)
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="after the warm-up: fall to zero, or stay"
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = Field(0, ge=0)
    ranks: int = Field(1, gt=0, description="processes on this machine")
    zero_stage: Literal["none", 1, 2, 3] = Field(
        "none", description="DeepSpeed ZeRO stage; none is plain torch in one process"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rows_per_step % self.ranks:
            raise ValueError(
                f"rows_per_step ({self.rows_per_step}) must divide by ranks ({self.ranks})"
            )
        if self.zero_stage == "none" and self.ranks > 1:
            raise ValueError("several ranks need a zero_stage (1, 2 or 3)")
        if self.zero_stage == "none" and self.dtype != "float32":
            raise ValueError("bfloat16 needs a zero_stage: plain torch here keeps no fp32 master")
        return self

    @property
    def micro_batches(self) -> int:
        """Forward and backward passes of one rank in one step."""
        return math.ceil(self.rows_per_step / self.ranks / self.micro_batch_rows)


def learning_rate(spec: TrainSpec, step: int) -> float:
    """Rate of step 0, 1, ...: a linear rise over the warm-up, then the schedule."""
    rise = min(1.0, (step + 1) / (spec.warmup_steps + 1))
    if spec.schedule == "constant" or step < spec.warmup_steps:
        return spec.learning_rate * rise
    left = (spec.steps - step) / (spec.steps - spec.warmup_steps)
    return spec.learning_rate * rise * left


def permutation(count: int, seed: int, epoch: int) -> list[int]:
    """Order of `count` rows in an epoch; depends on nothing but its arguments."""
    import numpy as np

    order: list[int] = (
        np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count).tolist()
    )
    return order


def step_rows(spec: TrainSpec, row_count: int, step: int) -> list[int]:
    """Indices of the rows of a step, over all ranks; epochs follow one another without a seam."""
    first = step * spec.rows_per_step
    rows: list[int] = []
    for epoch in range(first // row_count, (first + spec.rows_per_step - 1) // row_count + 1):
        order = permutation(row_count, spec.seed, epoch)
        start = max(first - epoch * row_count, 0)
        stop = min(first + spec.rows_per_step - epoch * row_count, row_count)
        rows += order[start:stop]
    return rows


def rank_batches(spec: TrainSpec, rows: list[int], rank: int) -> list[list[int]]:
    """A rank's share of a step, cut into micro-batches; every rank gets equally many."""
    share = rows[rank :: spec.ranks]
    return [
        share[start : start + spec.micro_batch_rows]
        for start in range(0, len(share), spec.micro_batch_rows)
    ]
