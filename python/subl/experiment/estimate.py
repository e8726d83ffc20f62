"""How long a run takes on this machine: from a short measurement, then from what is finished.

The measurement takes about a second: the fastest product of matrices, and how fast bytes are
hashed. Each finished step corrects what is left, steps of its own kind most; so does the running
one, the more of it is done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import SublError
from subl.experiment.spec import ExperimentSpec
from subl.experiment.steps import Step
from subl.experiment.work import Work, work_of
from subl.model.source import gguf_file
from subl.progress import Progress

if TYPE_CHECKING:
    from subl.train.meter import ModelSize

_PRIOR_SECONDS = 30.0
"""How much finished work of another kind must be, to count as much as the measurement."""

_HASHED_BYTES = 1 << 25


@dataclass(frozen=True)
class Pace:
    """FLOP/s of the fastest product, and bytes a second that are hashed."""

    flops: float
    bytes: float

    def seconds(self, work: Work) -> float:
        return work.flop / self.flops + work.bytes / self.bytes


@cache
def measure() -> Pace:
    """This machine's pace, in about a second (more where torch is not imported yet)."""
    import torch

    from subl.model.load import device
    from subl.train.meter import measured_peak

    data, best = bytes(_HASHED_BYTES), 0.0
    for _ in range(3):
        started = time.perf_counter()
        hashlib.sha256(data)
        best = max(best, len(data) / (time.perf_counter() - started))
    return Pace(measured_peak(torch.float32, device()), best)


def model_size(model: str, base: Path | None) -> ModelSize | None:
    """Sizes of the base model: of its folder, or guessed from the file that it will be made of.

    None where nobody knows before it is fetched.
    """
    from subl.model.load import text_config
    from subl.train.footprint import tensor_shapes
    from subl.train.meter import ModelSize

    if base is not None:
        shapes = tensor_shapes(base)
        config = text_config(base)
        sizes: list[Any] = [getattr(config, n, None) for n in ("vocab_size", "hidden_size")]
        if None in sizes:
            return None
        head = prod(map(int, sizes))
        embeddings = sum(prod(s) for n, s in shapes.items() if "embed" in n or "lm_head" in n)
        return ModelSize(sum(map(prod, shapes.values())) - embeddings, head, 0, True)
    try:
        file = gguf_file(model)
    except SublError:
        return None  # the step that needs it says why
    if file is None:
        return None
    weights = int(file.stat().st_size * 8 / 5.5)  # four bits each, and some in more
    return ModelSize(weights * 4 // 5, weights // 5, 0, True)


class Estimate:
    """Seconds of the steps that are left. `expected`: of each step, as measured beforehand."""

    def __init__(self, kinds: Mapping[str, str], expected: Mapping[str, float]) -> None:
        self._kinds = kinds
        self._left = dict(expected)
        self._finished: list[tuple[str, float, float]] = []
        self._running: str | None = None
        self._started = 0.0
        self._share = 0.0

    def begin(self, name: str, now: float) -> None:
        """A step begins. Times are monotonic seconds."""
        self._running, self._started, self._share = name, now, 0.0

    def advance(self, progress: Progress) -> None:
        """How far the running step is, as it reports: by its main task, which it is named after."""
        running = None if self._running is None else self._kinds[self._running]
        if progress.total and progress.task.split(" ")[0] == running:
            self._share = progress.done / progress.total

    def finish(self, name: str, seconds: float | None) -> None:
        """A step is done; `seconds` is what it took on this machine, None where it is not known."""
        expected = self._left.pop(name, None)
        if expected and seconds is not None:
            self._finished.append((self._kinds[name], expected, seconds))
        if name == self._running:
            self._running = None

    def seconds_left(self, now: float) -> float:
        """Of all steps that are not finished, the running one included."""
        return sum(self.step_seconds(name, now) for name in self._left)

    def step_seconds(self, name: str, now: float) -> float:
        """What is left of one step."""
        expected = self._left[name] * self._correction(self._kinds[name], now)
        if name != self._running:
            return expected
        return max(0.0, self._total(expected, now) - (now - self._started))

    def _total(self, expected: float, now: float) -> float:
        """What the running step takes: as expected at first, by its own pace from the middle on."""
        seconds = now - self._started
        weight = min(1.0, 2 * self._share)
        by_pace = seconds / self._share if self._share else 0.0
        return max(seconds, (1 - weight) * expected + weight * by_pace)

    def _correction(self, kind: str, now: float) -> float:
        """How much longer than expected work takes: of this kind if some is done, else of all."""
        seen = list(self._finished)
        expected = 0.0 if self._running is None else self._left.get(self._running, 0.0)
        if self._running is not None and expected and self._share:
            seen.append((self._kinds[self._running], expected, self._total(expected, now)))
        same = [each for each in seen if each[0] == kind]
        prior = 0.0 if same else _PRIOR_SECONDS
        took = sum(seconds for _, _, seconds in same or seen) + prior
        return took / (sum(expected for _, expected, _ in same or seen) + prior)


def estimate(spec: ExperimentSpec, chain: Iterable[Step], size: ModelSize, pace: Pace) -> Estimate:
    """What the steps of an experiment take at this pace."""
    rows = sum(each.rows for each in spec.generate)
    steps = list(chain)
    return Estimate(
        {step.name: step.kind for step in steps},
        {step.name: pace.seconds(work_of(step, size, rows)) for step in steps},
    )
