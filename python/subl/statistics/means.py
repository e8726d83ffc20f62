"""A mean with its interval, values of one question (or any other cluster) counted as one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from subl.errors import InputError
from subl.extras import require

DRAWS = 10_000
"""Draws of a bootstrap, and of a permutation test that is not exact."""

ROUNDING = 1e-12
"""Of the largest value: what varies by less does not vary."""

SCORED = 1e-5
"""What probabilities that were computed in float32 are known to: such a share of each, which is so
many nats of its logarithm (`subl.model.rounding`). Models that differ by no more are not told
apart."""

_BATCH = 10_000_000
"""Values that a bootstrap holds at a time."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; bounds and error are None where none can be given."""

    estimate: float
    low: float | None
    high: float | None
    standard_error: float | None
    clusters: int


def finite(values: Sequence[float]) -> None:
    """Refuse what no statistic can be taken of.

    Raises:
        InputError: one is NaN or infinite, with its place.
    """
    for place, value in enumerate(values):
        if not math.isfinite(value):
            raise InputError(
                f"value {place + 1} of {len(values)} is {value}, which is no finite number",
                hint="see what was scored: a model with broken weights scores NaN",
            )


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean of `values` with an error clustered by `clusters` (default: each its own).

        SE^2 = C / (C - 1) * sum_c (sum_{i in c} (s_i - mean))^2 / n^2,  t with C - 1 df

    Source: Miller 2024, arXiv 2411.00640, with the finite-cluster factor.
    """
    mean = _mean(values)
    sums = [math.fsum(each) for each in by_cluster([value - mean for value in values], clusters)]
    count = len(sums)
    squares = math.fsum(each * each for each in sums)
    if count < 2 or is_rounding(math.sqrt(squares), values):
        return Interval(mean, None, None, None, count)
    error = math.sqrt(count / (count - 1) * squares) / len(values)
    return around(mean, error, count, count - 1, confidence)


def is_rounding(spread: float, values: Sequence[float], share: float = ROUNDING) -> bool:
    """Whether a spread of these values is no more than rounding leaves of values that are equal:
    differences of equal pairs are not equal to the last bit, and would be certain."""
    return spread <= share * max(map(abs, values), default=0.0)


def around(mean: float, error: float, clusters: int, df: int, confidence: float) -> Interval:
    """The interval of Student's t about a mean of this standard error."""
    require("distill", "scipy", what="an interval")
    from scipy.special import stdtrit

    half = float(stdtrit(df, 0.5 + confidence / 2)) * error
    return Interval(mean, mean - half, mean + half, error, clusters)


def mean_probability(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Interval:
    """`clustered_mean` of probabilities, cut to [0, 1]: a t interval can leave it, and so can a sum
    of probabilities that were rounded to float32."""

    def cut(value: float) -> float:
        return min(max(0.0, value), 1.0)

    interval = clustered_mean(values, clusters)
    interval = replace(interval, estimate=cut(interval.estimate))
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=cut(interval.low), high=cut(interval.high))


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `values` with the interval of a bootstrap: whole clusters are drawn, 10,000 times,
    and the quantiles are bias-corrected and accelerated.

    A cluster counts by its sum and its size, so the estimate is that of `clustered_mean` whatever
    their sizes. `standard_error` is the draws' own.

    Source: Efron 1987, "Better bootstrap confidence intervals" (BCa), by `scipy.stats.bootstrap`;
    clusters as units: Davison and Hinkley 1997, section 3.8.
    """
    mean = _mean(values)
    found = by_cluster(values, clusters)
    count = len(found)
    nothing = Interval(mean, None, None, None, count)
    if count < 2 or len({fmean(each) for each in found}) < 2:
        return nothing
    require("distill", "scipy", what="an interval")
    import numpy as np
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (
            np.asarray([math.fsum(each) for each in found]),
            np.asarray([float(len(each)) for each in found]),
        ),
        lambda sums, sizes, axis: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=DRAWS,
        batch=max(1, _BATCH // count),
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = map(float, drawn.confidence_interval)
    if not low < high:  # NaN, too: draws that are all alike have no quantiles
        return nothing
    return Interval(mean, low, high, float(drawn.standard_error), count)


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("no values")
    finite(values)
    return fmean(values)


def by_cluster(values: Sequence[float], clusters: Sequence[Hashable] | None) -> list[list[float]]:
    """The values of each cluster, in the order in which they come; of None, each value is one."""
    own = range(len(values)) if clusters is None else clusters
    found: dict[Hashable, list[float]] = {}
    for cluster, value in zip(own, values, strict=True):
        found.setdefault(cluster, []).append(value)
    return list(found.values())
