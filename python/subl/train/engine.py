"""Two ways to take an optimiser step: plain torch in one process, or DeepSpeed ZeRO over ranks.

The only file that imports deepspeed. The caller divides the loss by the step's global
count of target tokens; an engine undoes whatever its library divides by on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from subl.errors import DependencyError, StageError
from subl.train.plan import TrainSpec

if TYPE_CHECKING:
    from torch import Tensor

    from subl.train.student import Student


class Engine(Protocol):
    """One optimiser over one student; `rank` of `ranks` processes."""

    rank: int
    ranks: int

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """The student's summed loss over a micro-batch."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of `loss`, which is already divided by the global token count."""

    def step(self, learning_rate: float) -> float | None:
        """Clip and update; returns the global gradient norm before clipping, where it is known."""

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Elementwise sum of a small tensor over all ranks."""

    def state_dict(self) -> dict[str, Tensor] | None:
        """The model's whole state on rank 0 (call on every rank); None: the module holds it."""


def make_engine(spec: TrainSpec, student: Student) -> Engine:
    """The engine that `spec.zero_stage` asks for."""
    return _Plain(spec, student) if spec.zero_stage == "none" else _DeepSpeed(spec, student)


def _optimizer(spec: TrainSpec, student: Student) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        student.parameters(),
        lr=spec.learning_rate,
        betas=(spec.adam_beta1, spec.adam_beta2),
        weight_decay=spec.weight_decay,
    )


class _Plain:
    rank = 0
    ranks = 1

    def __init__(self, spec: TrainSpec, student: Student) -> None:
        self._student = student
        self._optimizer = _optimizer(spec, student)
        self._max_norm = spec.max_gradient_norm

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self._student(input_ids, targets)
        return loss

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self, learning_rate: float) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self._student.parameters(), self._max_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        return values

    def state_dict(self) -> dict[str, Tensor] | None:
        return None


class _DeepSpeed:
    def __init__(self, spec: TrainSpec, student: Student) -> None:
        try:
            import deepspeed
        except ImportError as error:
            raise DependencyError(
                "ZeRO needs deepspeed", hint="pip install 'subl[distill]'"
            ) from error
        on_gpu = torch.cuda.is_available()
        if not on_gpu:
            # Else DeepSpeed compiles a shared-memory operator at first use: that needs g++ and
            # ninja, and a build killed midway leaves a lock on which the next run hangs.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(
            dist_backend="nccl" if on_gpu else "gloo", auto_mpi_discovery=False, verbose=False
        )
        self._engine, *_ = deepspeed.initialize(
            model=student, optimizer=_optimizer(spec, student), config=_config(spec)
        )
        self._stage = spec.zero_stage
        self.rank = torch.distributed.get_rank()
        self.ranks = torch.distributed.get_world_size()
        if self.ranks != spec.ranks:
            raise StageError(f"{spec.ranks} ranks were asked for, {self.ranks} are running")

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self._engine(input_ids, targets)
        return loss

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed averages gradients over ranks; ours are parts of one sum.
        self._engine.backward(loss * self.ranks, scale_wrt_gas=False)
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()  # counts the micro-batch; updates nothing before the boundary

    def step(self, learning_rate: float) -> float | None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        torch.distributed.all_reduce(values)
        return values

    def state_dict(self) -> dict[str, Tensor] | None:
        if self._stage != 3:
            return None
        whole = self._engine._zero3_consolidated_16bit_state_dict()
        prefix = "model."
        return {name.removeprefix(prefix): value for name, value in (whole or {}).items()}


def _config(spec: TrainSpec) -> dict[str, Any]:
    """DeepSpeed's configuration, every key that matters written out, nothing left to "auto"."""
    zero: dict[str, Any] = {"stage": spec.zero_stage}
    if spec.zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_micro_batch_size_per_gpu": min(
            spec.micro_batch_rows, spec.rows_per_step // spec.ranks
        ),
        "gradient_accumulation_steps": spec.micro_batches,
        "gradient_clipping": spec.max_gradient_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": spec.dtype == "bfloat16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
    }
