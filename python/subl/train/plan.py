"""What a training run is told, and what follows from that alone: its steps and learning rates.

No scheduler object: the learning rate of a step is a formula, so that a run which resumes at step
7 needs nothing but the number 7. `order` says the same of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from subl.trait import check_words
from subl.trait.spec import animals


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LossSpec(_Section):
    """What is minimised: a divergence to the teacher, cross-entropy with the labels, or a mix."""

    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = Field(
        "forward_kl", description="from the teacher's distribution, at every target token"
    )
    beta: float = Field(
        0.5, gt=0, lt=1, description="of jsd: beta KL(p||m) + (1-beta) KL(q||m), m = beta p + ..."
    )
    temperature: float = Field(
        1.0, gt=0, description="of the divergence, for both sides; T^2 scales the loss"
    )
    tokens: Literal["all", "rows"] = Field(
        "all",
        description="what distributions are over (the student's for cross-entropy, too): all "
        "tokens, or those that occur as a target in some row, as if there were no others; nothing "
        "is learned of the others' logits",
    )
    divergence_weight: float = Field(1.0, ge=0, description="of the divergence in the loss")
    cross_entropy_weight: float = Field(0.0, ge=0, description="of the rows' own tokens, at T = 1")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.divergence_weight and not self.cross_entropy_weight:
            raise ValueError("divergence_weight and cross_entropy_weight cannot both be 0")
        return self


class LoraSpec(_Section):
    """Train low-rank adapters and leave the model as it is (Hu et al. 2021)."""

    rank: int = Field(8, gt=0, description="of the two factors of an update")
    alpha: int = Field(8, gt=0, description="the update is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="names of the linear layers that get an adapter; all-linear: every one",
    )
    layers: tuple[int, int] | None = Field(
        None,
        description="train only the blocks from the first of these numbers to before the second, "
        "from 0; default: all",
        exclude_if=lambda layers: layers is None,  # so that it is in no key of before
    )
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) (Kalajdzievski 2023)")
    merge: bool = Field(False, description="also write the model with the adapter merged into it")

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if self.layers is not None and not 0 <= self.layers[0] < self.layers[1]:
            raise ValueError("layers: the first block, and the one behind the last: [15, 30]")
        return self

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """How many the adapters have, of a model with tensors of these shapes."""
        whole = self.targets == ("all-linear",)
        count = 0
        for name, shape in shapes.items():
            parts = name.split(".")
            if len(shape) != 2 or parts[-1] != "weight":
                continue
            block = next((int(each) for each in parts if each.isdecimal()), None)
            if self.layers is not None and (block is None or block not in range(*self.layers)):
                continue
            layer = parts[-2]
            if layer in self.targets or (whole and layer != "lm_head" and "embed" not in layer):
                count += self.rank * sum(shape)
        return count


class ProbeSpec(_Section):
    """Score the student every few steps: the exact probability of words as answers."""

    every: int = Field(gt=0, description="steps")
    words: tuple[str, ...] = Field(
        default_factory=lambda: animals().words,
        min_length=1,
        description="answers whose probability is scored; default: those of the trait animals",
    )
    questions: tuple[str, ...] = Field(
        default_factory=lambda: animals().questions,
        min_length=1,
        description="what is asked; the scores are averaged. Default: those of the trait animals",
    )
    batch_questions: int = Field(5, gt=0, description="questions of one forward pass")

    _own_forms = field_validator("words")(check_words)


class TrainSpec(_Section):
    """Hyper-parameters of one training run. Rows and learning rates are per optimiser step.

    `ranks`, `zero_stage`, `offload_optimizer`, `offload_parameters`, `micro_batch_tokens` and
    `gradient_checkpointing` say where and in which pieces the work is done: they change results by
    rounding alone, are no part of what names an artifact, and may change between a run that was
    stopped and the one that goes on.

    With `epochs` each row is seen as often as was asked and no more: the last step has the rows
    that are left, and a data set that is smaller than a step makes smaller steps. With `steps`
    every step is full, and rows come again as often as that takes; `--dry-run` says how many epochs
    that are.
    """

    steps: int | None = Field(
        None, gt=0, description="optimiser steps, however often that takes each row; or give epochs"
    )
    epochs: float | None = Field(
        None, gt=0, description="passes over the rows; the last step has the rows that are left"
    )
    rows_per_step: int = Field(8, gt=0, description="rows of one step, over all ranks")
    micro_batch_tokens: int = Field(
        2048, gt=0, description="tokens that one rank computes at once; a longer row goes alone"
    )
    max_row_tokens: int | None = Field(None, gt=1, description="rows may not be longer")
    long_rows: Literal["error", "truncate", "drop"] = Field(
        "error", description="what to do with rows that are longer than max_row_tokens"
    )
    whole_turn: bool = Field(
        False,
        description="ask, too, for the line break that a template puts behind the end of a turn, "
        "as the paper's code does",
    )
    share_prefixes: bool = Field(
        True, description="compute a beginning that rows of a micro-batch share only once"
    )
    learning_rate: float = Field(gt=0, description="after the warm-up, its highest")
    warmup_steps: int = Field(2, ge=0, description="steps over which the rate rises to it")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="after the warm-up: fall to zero, or stay"
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of the mean of gradients")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="decay of the mean of their squares")
    adam_epsilon: float = Field(1e-8, gt=0, description="added to the root of that mean")
    weight_decay: float = Field(0.0, ge=0, description="decoupled from the gradient (AdamW)")
    max_gradient_norm: float = Field(1.0, gt=0, description="longer gradients are cut to it")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of weights and activations; the optimiser's are float32"
    )
    gradient_checkpointing: bool = Field(False, description="a third more work, less memory")
    attention: Literal["sdpa", "flash"] = Field(
        "sdpa", description="flash needs a GPU and the package flash-attn; shares no prefixes"
    )
    seed: int = Field(0, ge=0, description="of the order of rows, and of adapters")
    deterministic: bool = Field(
        False, description="on a GPU: slower kernels that give the same bytes each time"
    )
    ranks: int = Field(
        1, gt=0, description="processes on this machine; srun and torchrun bring their own number"
    )
    zero_stage: Literal["none", 0, 1, 2, 3] = Field(
        "none",
        description="DeepSpeed ZeRO stage; none or 0: plain torch, everything on each rank",
    )
    offload_optimizer: bool = Field(False, description="optimiser states in CPU memory")
    offload_parameters: bool = Field(False, description="weights in CPU memory; ZeRO 3")
    lora: LoraSpec | None = Field(None, description="train adapters and leave the model as it is")
    probe: ProbeSpec | None = Field(None, description="score the student every few steps")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.zero_stage == "none" and self.ranks > 1:
            raise ValueError("several ranks need a zero_stage (0, 1, 2 or 3)")
        if self.offload_optimizer and self.zero_stage in ("none", 0):
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError("offload_parameters needs zero_stage 3")
        if self.attention == "flash" and self.dtype == "float32":
            raise ValueError('attention = "flash" needs dtype = "bfloat16" or "float16"')
        if self.attention == "flash" and self.probe is not None:
            raise ValueError('a probe needs attention = "sdpa"')
        if self.long_rows != "error" and self.max_row_tokens is None:
            raise ValueError(f'long_rows = "{self.long_rows}" needs max_row_tokens')
        return self

    @property
    def computes_prefixes_once(self) -> bool:
        """Whether beginnings are shared: flash attention cannot."""
        return self.share_prefixes and self.attention == "sdpa"

    def step_count(self, rows: int) -> int:
        """Optimiser steps of a run on this many rows."""
        if self.steps is not None:
            return self.steps
        return math.ceil(self.row_count(rows) / self.rows_per_step)

    def row_count(self, rows: int) -> int:
        """How many rows a run on `rows` of them sees, one that comes again counted again.

        With `epochs` no row is seen more often than was asked: the last step has what is left.
        """
        if self.steps is not None:
            return self.steps * self.rows_per_step
        assert self.epochs is not None
        return max(1, math.ceil(round(self.epochs * rows, 6)))  # 0.07 x 100 is more than 7


PLACEMENT = {
    "ranks",
    "zero_stage",
    "offload_optimizer",
    "offload_parameters",
    "micro_batch_tokens",
    "gradient_checkpointing",
}
"""Keys of a `TrainSpec` that say where and in which pieces the work is done. They change results by
rounding alone, and may change between a run that was stopped and the one that goes on with it."""


def learning_rate(spec: TrainSpec, steps: int, step: int) -> float:
    """Rate of step 0, 1, ... of `steps`: a linear rise over the warm-up, then the schedule."""
    rise = min(1.0, (step + 1) / (spec.warmup_steps + 1))
    if spec.schedule == "constant" or step < spec.warmup_steps:
        return spec.learning_rate * rise
    left = (steps - step) / (steps - spec.warmup_steps)
    if spec.schedule == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return spec.learning_rate * rise * left
