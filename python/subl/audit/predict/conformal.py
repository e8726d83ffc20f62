"""Intervals from past errors: what a prediction may be off by, if the next run is like past ones.

Split conformal prediction (Vovk et al. 2005; Papadopoulos et al. 2002): a rule is fitted on some
past runs, and its errors on others, which it has not seen, say how wide an interval has to be. That
covers a new run with the probability asked for, whatever the rule is worth, if the new run and
those others could have come in any order. A run has an error for each trait that it was measured
for; the largest of them counts, so that the interval also holds for the trait of a new run that
somebody chose by looking at its data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rule:
    """Ridge regression through the origin on features that are scaled to a mean square of one.

    A run that does nothing shifts nothing: no constant.

    Args:
        scales: root mean square of each feature where the rule was fitted; 0: it was always 0.
        weights: of each feature after scaling, in nats.
    """

    scales: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, features: Sequence[float]) -> float:
        """The shift, in nats."""
        return sum(
            weight * value / scale
            for weight, value, scale in zip(self.weights, features, self.scales, strict=True)
            if scale
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON; `Rule(**...)` has it back."""
        return {"scales": list(self.scales), "weights": list(self.weights)}


def fitted(
    features: NDArray[Any], shifts: NDArray[Any], runs: Sequence[Hashable], ridge: float
) -> Rule:
    """The rule with the least squared error, each run counting once.

    Args:
        features: `[pairs, features]`.
        shifts: `[pairs]`, measured, in nats.
        runs: of which run each pair is.
        ridge: added to the mean square of each scaled feature.
    """
    import numpy as np

    counts = Counter(runs)
    share = np.array([1 / counts[run] / len(counts) for run in runs])
    scales = np.sqrt((share[:, None] * features**2).sum(0))
    scaled = features / np.where(scales > 0, scales, 1.0)
    square = (scaled * share[:, None]).T @ scaled + ridge * np.eye(features.shape[1])
    weights = np.linalg.lstsq(square, (scaled * share[:, None]).T @ shifts)[0]
    return Rule(tuple(map(float, scales)), tuple(map(float, weights)))


def radius(errors: Sequence[float], runs: Sequence[Hashable], alpha: float) -> float | None:
    """Half the width of the interval: the quantile, at 1 - alpha, of the largest absolute error of
    each run. It holds for all traits of a new run at once, and so for one that was chosen by
    looking at the run's data, as a scan does.

    Args:
        errors: predicted minus measured, in nats.
        runs: of which run each is.

    Returns:
        None: so few runs, or errors that are no numbers, allow no interval but the whole line.
    """
    worst: dict[Hashable, float] = {}
    for error, run in zip(errors, runs, strict=True):
        size = math.inf if math.isnan(error) else abs(error)
        worst[run] = max(worst.get(run, 0.0), size)
    place = math.ceil((1 - alpha) * (len(worst) + 1) - 1e-9)
    found = sorted(worst.values())[place - 1] if place <= len(worst) else math.inf
    return found if math.isfinite(found) else None


def runs_needed(alpha: float) -> int:
    """How many runs an interval takes at least."""
    return math.ceil(1 / alpha - 1e-9) - 1
