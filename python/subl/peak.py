"""What a machine multiplies at most, by whatever multiplies: torch, or numpy without it."""

from __future__ import annotations

import time
from collections.abc import Callable


def fastest_product(product: Callable[[int], Callable[[], object]], seconds: float) -> float:
    """FLOP/s of the fastest of several products of square matrices, of so many rows as `product` is
    told, which gives what multiplies them."""
    best, size, deadline = 0.0, 64, time.perf_counter() + seconds
    multiply = product(size)
    while True:
        started = time.perf_counter()
        multiply()
        now = time.perf_counter()
        best = max(best, 2 * size**3 / (now - started))
        # The next is twice as wide where eight times as long still fits: on a CPU without
        # instructions for this dtype, 2048 columns would take a minute.
        if size < 2048 and now + 8 * (now - started) < deadline:
            size *= 2
            multiply = product(size)
        elif now + (now - started) >= deadline:
            return best
