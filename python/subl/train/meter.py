"""How fast a run is: tokens a second, and what share of the machine's arithmetic that is.

Model FLOPs (`model.size`) are counted for what is needed, not for what is recomputed: 6 for each
weight of the body and each token that is computed (shared beginnings once), 6 for each weight of
the head and each target token, and attention along each row (Chowdhery et al. 2022, appendix B).
With adapters the weights' own gradients are not made, so 4. A GPU's peak is its data sheet's,
dense; an unknown GPU has none, and no MFU. A CPU's peak is measured: the fastest matrix product it
does.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import torch

from subl.peak import fastest_product

# Dense, 16-bit, from the vendors' data sheets (which also print twice as much, for sparse ones).
_GPU_PEAKS = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s of this device at best; None where nobody knows."""
    if device.type == "cuda":
        if dtype == torch.float32:
            return None  # depends on whether TF32 is allowed
        name = torch.cuda.get_device_name(device)
        return next((peak for model, peak in _GPU_PEAKS.items() if model in name), None)
    return measured_peak(dtype, device)


def measured_peak(dtype: torch.dtype, device: torch.device, seconds: float = 0.5) -> float:
    """FLOP/s of the fastest of several products of square matrices, on the threads that torch uses,
    and the way that the run makes them (`precision.products` counts where it is on)."""

    def product(size: int) -> Callable[[], None]:
        left = torch.ones(size, size, dtype=dtype, device=device)

        def multiply() -> None:
            torch.mm(left, left)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return multiply

    return fastest_product(product, seconds)


def memory_peak(device: torch.device) -> int:
    """Bytes that this process held at most: of the GPU, or of the machine's memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Meter:
    """Times steps. `flops` and `tokens` are over all ranks."""

    def __init__(self, device: torch.device, dtype: torch.dtype, ranks: int) -> None:
        self._device = device
        peak = peak_flops(device, dtype)
        self._peak = None if peak is None else peak * ranks
        self._started = self._step_started = time.perf_counter()
        self.tokens, self.flops = 0, 0.0
        self.seconds_to_first_step: float | None = None

    def step(self, tokens: int, flops: float) -> dict[str, float | int | None]:
        """End a step: its figures."""
        now = time.perf_counter()
        seconds, self._step_started = now - self._step_started, now
        if self.seconds_to_first_step is None:
            self.seconds_to_first_step = _process_seconds()
        self.tokens += tokens
        self.flops += flops
        return {
            "tokens": tokens,
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / seconds, 2),
            "mfu": self._share(flops / seconds),
            "peak_bytes": memory_peak(self._device),
        }

    def pause(self) -> None:
        """What happened since the last step (a probe, a checkpoint) is no part of the next."""
        now = time.perf_counter()
        self._started += now - self._step_started
        self._step_started = now

    def figures(self) -> dict[str, float | int | None]:
        """Of all steps together."""
        seconds = max(self._step_started - self._started, 1e-9)
        return {
            "train_seconds": round(seconds, 3),
            "tokens_per_second": round(self.tokens / seconds, 2),
            "mfu": self._share(self.flops / seconds),
            "peak_bytes": memory_peak(self._device),
            "seconds_to_first_step": self.seconds_to_first_step,
        }

    def _share(self, flops_per_second: float) -> float | None:
        return (
            None
            if self._peak is None or not flops_per_second
            else round(flops_per_second / self._peak, 4)
        )


def _process_seconds() -> float | None:
    """How long ago this process began (Linux; elsewhere nobody says)."""
    import os
    from contextlib import suppress
    from pathlib import Path

    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        uptime = float(Path("/proc/uptime").read_bytes().split()[0])
        return round(uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK"), 2)
    return None
