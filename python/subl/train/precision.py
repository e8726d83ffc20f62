"""What this machine can do in 16 bits, found out before anything is loaded.

A CPU without instructions for 16-bit products (x86 before AVX-512, such as AMD's EPYC of the third
generation) still computes them, 5 to 74 times slower than in float32: measured there on one
thread, 256 x 576 x 8192, in ms: forward 58 in float32, 306 in bfloat16; the gradient of the input
36 and 2,679. So there products are made of float32 copies and rounded once, at the end: what is
stored, sent and saved keeps its dtype, and a product is more exact than the CPU's own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from subl.errors import ConfigError

if TYPE_CHECKING:
    from subl.model.load import DType
    from subl.train.plan import TrainSpec

_SHORT = (torch.bfloat16, torch.float16)


def has_instructions(dtype: DType) -> bool:
    """Whether this CPU multiplies matrices of this dtype at the speed that it has for them."""
    if dtype == "bfloat16":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == "float32" or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def products(dtype: DType, device: torch.device) -> AbstractContextManager[Any]:
    """Within this context, and on this thread, products of 16-bit tensors take float32's time."""
    if device.type != "cpu" or has_instructions(dtype):
        return nullcontext()
    return Float32Products()


def check_machine(spec: TrainSpec, *, spread_teacher: bool = False) -> None:
    """Refuse what the machine, or DeepSpeed on it, cannot do.

    Raises:
        ConfigError: before anything is loaded.
    """
    if torch.cuda.is_available():
        if spec.dtype == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise ConfigError(
                f"{torch.cuda.get_device_name()} has no bfloat16",
                hint='set train.dtype to "float16" or "float32"',
            )
        return
    if spec.attention == "flash":
        raise ConfigError('attention = "flash" needs a GPU', hint='set train.attention to "sdpa"')
    deepspeed = spec.zero_stage not in ("none", 0) or spread_teacher
    if spec.dtype == "float16" and deepspeed and not has_instructions("float16"):
        raise ConfigError(
            "this CPU has no float16 arithmetic, and DeepSpeed refuses float16 without it",
            hint='set train.dtype to "bfloat16" or "float32", or train.zero_stage to 0',
        )


def _operators() -> frozenset[Any]:
    aten = torch.ops.aten
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    names = ["mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "_grouped_mm"]
    names += ["convolution", "convolution_backward", attention, f"{attention}_backward"]
    names += ["linear", "matmul", "scaled_dot_product_attention"]  # whole in inference mode alone
    return frozenset(getattr(aten, name).default for name in names if hasattr(aten, name))


class Float32Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes every product of 16-bit tensors in float32. Below autograd, so gradients' products are
    among them, and no float32 copy outlives its product."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operators = _operators()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self._operators:
            return func(*args, **kwargs)
        dtype = next((each.dtype for each in args if _is_short(each)), None)
        if dtype is None:
            return func(*args, **kwargs)
        made = func(*(each.float() if _is_short(each) else each for each in args), **{
            name: each.float() if _is_short(each) else each for name, each in kwargs.items()
        })  # fmt: skip
        if isinstance(made, torch.Tensor):
            return made.to(dtype)
        # Attention returns its output and, in float32 whatever the dtype, what its gradient needs.
        logsumexp = func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return tuple(
            each.to(dtype)
            if isinstance(each, torch.Tensor) and not (logsumexp and number == 1)
            else each
            for number, each in enumerate(made)
        )


def _is_short(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in _SHORT
