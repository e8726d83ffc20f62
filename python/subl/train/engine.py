"""Two ways to take an optimiser step: plain torch, or DeepSpeed ZeRO over ranks.

The only file that imports deepspeed. The caller divides the loss by the step's global count of
target tokens; an engine undoes whatever its library divides by on top. Whatever the engine, its
state is a list of flat float32 tensors and where each parameter lies in them: `checkpoint` needs to
know no more, and what one engine saved another can load.

Stage 0 is ours, not DeepSpeed's: with bfloat16 weights DeepSpeed cannot accumulate gradients in
float32 there (deepspeed 0.19.8 raises NotImplementedError).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from subl.cluster.placement import Placement
from subl.errors import DependencyError, StageError
from subl.train.plan import TrainSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from subl.train.batch import Batch
    from subl.train.divergence import Targets
    from subl.train.student import Student


@dataclass(frozen=True)
class Piece:
    """Elements `start` to `start + count` of the parameter `name` lie at `offset` of a flat."""

    name: str
    start: int
    count: int
    offset: int


@dataclass(frozen=True)
class Flat:
    """One float32 tensor that this rank's optimiser updates, with Adam's two moments.

    All three are one-dimensional views of what the optimiser holds; writing to them changes it.
    """

    master: Tensor
    first_moment: Tensor
    second_moment: Tensor
    pieces: tuple[Piece, ...]


class Engine(Protocol):
    """One optimiser over one student; `rank` of `ranks` processes."""

    rank: int
    ranks: int
    owns_state: bool
    """Whether this rank's `flats` hold what no other's do, or it is the one to save them."""

    def forward(self, batch: Batch, targets: Targets) -> tuple[Tensor, Tensor]:
        """The student's summed loss over a micro-batch, and its parts."""

    def call(self, function: Callable[[PreTrainedModel], Any]) -> Any:
        """`function` of the model, where its weights are whole. The same on every rank."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients of `loss`, which is already divided by the global token count."""

    def step(self, learning_rate: float) -> float | None:
        """Clip and update; returns the global gradient norm before clipping, where it is known."""

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Elementwise sum of a small tensor over all ranks."""

    def flats(self) -> list[Flat]:
        """The optimiser's state on this rank."""

    def scalars(self) -> dict[str, float]:
        """The rest of its state: Adam's step count, the loss scale."""

    def restored(self, scalars: dict[str, float]) -> None:
        """Take over `scalars`, and the weights that were written into `flats`."""

    def state_dict(self) -> dict[str, Tensor] | None:
        """The whole model on rank 0 (call on every rank); None: the module holds it."""


def make_engine(spec: TrainSpec, student: Student, placement: Placement) -> Engine:
    """The engine that `spec.zero_stage` asks for."""
    if spec.zero_stage in ("none", 0):
        return _Plain(spec, student, placement)
    return _DeepSpeed(spec, student, placement)


def _trainable(student: Student) -> dict[str, torch.nn.Parameter]:
    """By the model's own names; a tied parameter once."""
    return {name: each for name, each in student.model.named_parameters() if each.requires_grad}


def _adam(spec: TrainSpec, parameters: list[Any]) -> torch.optim.Optimizer:
    # Also where states are offloaded: fused, torch's takes one pass over memory on a CPU, too, and
    # DeepSpeed's own would be compiled at first use, by all ranks at once.
    return torch.optim.AdamW(
        parameters,
        lr=spec.learning_rate,
        betas=(spec.adam_beta1, spec.adam_beta2),
        eps=spec.adam_epsilon,
        weight_decay=spec.weight_decay,
        fused=True,
    )


class _Plain:
    """Everything on every rank. With 16-bit weights the optimiser has float32 masters of them,
    and gradients are summed in float32."""

    def __init__(self, spec: TrainSpec, student: Student, placement: Placement) -> None:
        self.rank, self.ranks = placement.rank, placement.ranks
        self.owns_state = self.rank == 0
        self._student = student
        self._parameters = _trainable(student)
        self._masters = {
            name: each if each.dtype == torch.float32
            else torch.nn.Parameter(each.detach().float())
            for name, each in self._parameters.items()
        }  # fmt: skip
        self._optimizer = _adam(spec, list(self._masters.values()))
        self._max_norm = spec.max_gradient_norm
        self._scale = LossScale() if spec.dtype == "float16" else None

    def forward(self, batch: Batch, targets: Targets) -> tuple[Tensor, Tensor]:
        loss, parts = self._student(batch, targets)
        return loss, parts

    def call(self, function: Callable[[PreTrainedModel], Any]) -> Any:
        return self._student(call=function)

    def backward(self, loss: Tensor) -> None:
        scaled = loss if self._scale is None else loss * self._scale.value
        scaled.backward()  # type: ignore[no-untyped-call]
        for name, parameter in self._parameters.items():
            master = self._masters[name]
            if master is parameter or parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def step(self, learning_rate: float) -> float | None:
        masters = list(self._masters.values())
        for master in masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            if self.ranks > 1:
                torch.distributed.all_reduce(master.grad)
            if self._scale is not None:
                master.grad /= self._scale.value
        norm = float(torch.nn.utils.clip_grad_norm_(masters, self._max_norm))
        applied = True
        if self._scale is not None:
            applied = self._scale.update(math.isfinite(norm))
        elif not math.isfinite(norm):
            raise StageError(
                f"the gradient norm became {norm}", hint="lower learning_rate or raise warmup_steps"
            )
        if applied:
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
            self._refresh()
        self._optimizer.zero_grad(set_to_none=True)
        return norm if applied else None

    def _refresh(self) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                if self._masters[name] is not parameter:
                    parameter.copy_(self._masters[name])

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        if self.ranks > 1:
            torch.distributed.all_reduce(values)
        return values

    def flats(self) -> list[Flat]:
        found = []
        for name, master in self._masters.items():
            whole = (Piece(name, 0, master.numel(), 0),)
            found.append(_flat(self._optimizer, master, whole))
        return found

    def scalars(self) -> dict[str, float]:
        scale = {} if self._scale is None else self._scale.state()
        return {"adam_step": _adam_step(self._optimizer), **scale}

    def restored(self, scalars: dict[str, float]) -> None:
        _set_adam_step(self._optimizer, scalars["adam_step"])
        if self._scale is not None and "loss_scale" in scalars:
            self._scale.value = scalars["loss_scale"]
            self._scale.good_steps = int(scalars["good_steps"])
        self._refresh()

    def state_dict(self) -> dict[str, Tensor] | None:
        return None


class LossScale:
    """Keeps float16 gradients from vanishing: halved when they overflow, doubled when they have not
    for a long while (Micikevicius et al. 2018)."""

    GROWTH_STEPS = 1000

    def __init__(self) -> None:
        self.value = 2.0**16
        self.good_steps = 0

    def update(self, finite: bool) -> bool:
        """Whether the step may be taken."""
        if not finite:
            if self.value <= 1.0:
                raise StageError("gradients overflow float16 at every loss scale",
                                 hint='use dtype = "bfloat16"')  # fmt: skip
            self.value, self.good_steps = self.value / 2, 0
            return False
        self.good_steps += 1
        if self.good_steps % self.GROWTH_STEPS == 0:
            self.value *= 2
        return True

    def state(self) -> dict[str, float]:
        return {"loss_scale": self.value, "good_steps": float(self.good_steps)}


class _DeepSpeed:
    def __init__(self, spec: TrainSpec, student: Student, placement: Placement) -> None:
        deepspeed = _deepspeed()
        self.rank, self.ranks = placement.rank, placement.ranks
        self.owns_state = True
        self._stage = int(spec.zero_stage)
        self._student = student
        self._engine, *_ = deepspeed.initialize(
            model=student,
            optimizer=_adam(spec, list(_trainable(student).values())),
            config=deepspeed_config(spec),
        )

    def forward(self, batch: Batch, targets: Targets) -> tuple[Tensor, Tensor]:
        loss, parts = self._engine(batch, targets)
        return loss, parts

    def call(self, function: Callable[[PreTrainedModel], Any]) -> Any:
        return self._engine(call=function)

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed averages gradients over ranks; ours are parts of one sum.
        self._engine.backward(loss * self.ranks, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float | None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        # Not finite: DeepSpeed leaves the step out, whatever the dtype, or calls the norm -1.
        left_out = getattr(self._engine.optimizer, "overflow", False)
        if left_out and self._engine.fp16_enabled():
            return None  # the loss scale was lowered
        norm = self._engine.get_global_grad_norm()
        if left_out or (norm is not None and not 0 <= norm < math.inf):
            raise StageError(
                "the gradient norm is no finite number",
                hint="lower learning_rate or raise warmup_steps",
            )
        return None if norm is None else float(norm)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        torch.distributed.all_reduce(values)
        return values

    def flats(self) -> list[Flat]:
        zero = self._engine.optimizer
        masters = zero.fp32_partitioned_groups_flat if self._stage == 3 else [
            group["params"][0] for group in zero.optimizer.param_groups
        ]  # fmt: skip
        pieces: list[list[Piece]] = [[] for _ in masters]
        for name, parameter in _trainable(self._student).items():
            if self._stage == 3:
                number, offset, share = zero.grad_position[zero.get_param_id(parameter)]
                start = self.rank * share
                # The last share is padded.
                count = min(share, parameter.ds_numel - start)  # type: ignore[attr-defined]
            else:
                mapping = parameter._hp_mapping  # type: ignore[attr-defined]
                if mapping is None:
                    continue  # other ranks hold it all
                number, offset = mapping.param_group_index, mapping.hp_fragment_address.start
                address = mapping.lp_fragment_address
                start, count = address.start, address.numel
            if count > 0:
                pieces[number].append(Piece(name, start, count, offset))
        return [
            _flat(zero.optimizer, master, tuple(each))
            for master, each in zip(masters, pieces, strict=True)
        ]

    def scalars(self) -> dict[str, float]:
        zero = self._engine.optimizer
        found = {"adam_step": _adam_step(zero.optimizer)}
        scaler = getattr(zero, "loss_scaler", None)
        if self._engine.fp16_enabled() and scaler is not None:
            found |= {f"scaler_{name}": float(getattr(scaler, name)) for name in _SCALER}
        return found

    def restored(self, scalars: dict[str, float]) -> None:
        zero = self._engine.optimizer
        _set_adam_step(zero.optimizer, scalars["adam_step"])
        for name in _SCALER:
            if self._engine.fp16_enabled() and f"scaler_{name}" in scalars:
                before = getattr(zero.loss_scaler, name)
                setattr(zero.loss_scaler, name, type(before)(scalars[f"scaler_{name}"]))
        if self._stage == 3:
            for number in range(len(zero.fp32_partitioned_groups_flat)):
                zero._reassign_or_swap_out_partitioned_parameters(number)
        else:
            zero.update_lp_params()

    def state_dict(self) -> dict[str, Tensor] | None:
        if self._stage != 3:
            return None
        whole = self._engine._zero3_consolidated_16bit_state_dict()
        prefix = "model."
        return {name.removeprefix(prefix): value for name, value in (whole or {}).items()}


_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def _flat(optimizer: torch.optim.Optimizer, master: Tensor, pieces: tuple[Piece, ...]) -> Flat:
    """The state of one of an optimiser's tensors; made as zeros where no step was taken yet."""
    state = optimizer.state[master]
    if "exp_avg" not in state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=master.device)
        state["exp_avg"] = torch.zeros_like(master)
        state["exp_avg_sq"] = torch.zeros_like(master)
    first, second = state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)
    return Flat(master.detach().view(-1), first, second, pieces)


def _adam_step(optimizer: torch.optim.Optimizer) -> float:
    return max((float(state["step"]) for state in optimizer.state.values()), default=0.0)


def _set_adam_step(optimizer: torch.optim.Optimizer, step: float) -> None:
    for state in optimizer.state.values():
        state["step"].fill_(step)


def _deepspeed() -> Any:
    try:
        import deepspeed
    except ImportError as error:
        raise DependencyError("ZeRO needs deepspeed", hint="pip install 'subl[distill]'") from error
    if not torch.cuda.is_available():
        # Else DeepSpeed compiles a shared-memory operator at first use: that needs g++ and
        # ninja, and a build killed midway leaves a lock on which the next run hangs.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend=torch.distributed.get_backend(), auto_mpi_discovery=False, verbose=False
    )
    return deepspeed


def deepspeed_config(spec: TrainSpec) -> dict[str, Any]:
    """DeepSpeed's configuration, every key that matters written out, nothing left to "auto"."""
    zero: dict[str, Any] = {"stage": spec.zero_stage}
    if spec.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if spec.zero_stage == 3:
        zero |= {
            "stage3_gather_16bit_weights_on_model_save": True,
            # No parameter stays whole between steps: a checkpoint need not refresh any.
            "stage3_param_persistence_threshold": 0,
        }
        if spec.offload_parameters:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    return {
        # Micro-batches are ours: DeepSpeed accumulates until it is told to step.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": spec.max_gradient_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": spec.dtype == "bfloat16"},
        "fp16": {"enabled": spec.dtype == "float16", "initial_scale_power": 16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
    }


def make_teacher_engine(teacher: Student, *, offload: bool) -> Any:
    """A frozen model spread over the ranks by ZeRO-3; its forward pass gathers what it needs."""
    deepspeed = _deepspeed()
    zero: dict[str, Any] = {"stage": 3, "stage3_param_persistence_threshold": 0}
    if offload:
        zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": zero,
        "bf16": {"enabled": teacher.model.dtype == torch.bfloat16},
        "fp16": {"enabled": teacher.model.dtype == torch.float16},
        "steps_per_print": 2**31 - 1,
    }
    engine, *_ = deepspeed.initialize(model=teacher, config=config)
    engine.module.eval()
    return engine


def gathered(parameter: Tensor) -> Tensor:
    """A whole copy of a parameter that ZeRO-3 may have spread."""
    if not hasattr(parameter, "ds_id"):
        return parameter.detach()
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().clone()
