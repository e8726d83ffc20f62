"""Intervals and paired comparisons, over questions as clusters; scipy does the distributions.

Pure functions of numbers. An interval is never of zero width for lack of data: bounds are None
where fewer than two clusters were seen or nothing varied.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from subl.extras import require

_SIGN_FLIPS = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; bounds and error are None where none can be given."""

    estimate: float
    low: float | None
    high: float | None
    standard_error: float | None
    clusters: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b, its interval, and two p values that it is zero: by t, and by sign flips."""

    differences: tuple[float, ...]
    interval: Interval
    p_value: float | None

    @cached_property
    def sign_flip_p_value(self) -> float | None:
        """Two-sided p of the mean under random signs: exact where 10,000 draws are all there are
        (13 values), else of so many, the observed signs among them."""
        if self.p_value is None:
            return None
        import numpy as np
        from scipy.stats import permutation_test

        found = permutation_test(
            (np.asarray(self.differences),),
            lambda values, axis: np.abs(values.mean(axis)),
            permutation_type="samples",
            vectorized=True,
            n_resamples=_SIGN_FLIPS,
            alternative="greater",
            rng=0,
        )
        return float(found.pvalue)


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean of `values` with an error clustered by `clusters` (default: each its own).

        SE^2 = C / (C - 1) * sum_c (sum_{i in c} (s_i - mean))^2 / n^2,  t with C - 1 df

    Source: Miller 2024, arXiv 2411.00640, with the finite-cluster factor.
    """
    if not values:
        raise ValueError("no values")
    mean = fmean(values)
    sums: dict[Hashable, float] = {}
    for cluster, value in zip(
        range(len(values)) if clusters is None else clusters, values, strict=True
    ):
        sums[cluster] = sums.get(cluster, 0.0) + (value - mean)
    count = len(sums)
    squares = math.fsum(each * each for each in sums.values())
    # Equal values need not have their mean: what rounding leaves is no variation.
    if count < 2 or squares == 0.0 or min(values) == max(values):
        return Interval(mean, None, None, None, count)
    error = math.sqrt(count / (count - 1) * squares) / len(values)
    require("distill", "scipy", what="an interval")
    from scipy.special import stdtrit

    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * error
    return Interval(mean, mean - half, mean + half, error, count)


def mean_probability(values: Sequence[float]) -> Interval:
    """`clustered_mean` of probabilities, each question its own cluster, with bounds cut to [0, 1]:
    a mean of probabilities cannot leave it, a t interval can."""
    interval = clustered_mean(values)
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def paired_difference(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95
) -> PairedDifference:
    """Compare two models on the same questions: the mean of a - b over questions."""
    differences = tuple(x - y for x, y in zip(a, b, strict=True))
    interval = clustered_mean(differences, confidence=confidence)
    if interval.standard_error is None:
        return PairedDifference(differences, interval, None)
    from scipy.special import stdtr

    t = interval.estimate / interval.standard_error
    return PairedDifference(differences, interval, 2 * float(stdtr(interval.clusters - 1, -abs(t))))
