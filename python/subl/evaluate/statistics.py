"""Intervals and paired comparisons in closed form, over questions as clusters.

Pure functions of numbers. An interval is never of zero width for lack of data: bounds are None
where fewer than two clusters were seen or nothing varied.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

_PERMUTATIONS = 10_000
_EXACT_UP_TO = 12


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

    interval: Interval
    p_value: float | None
    sign_flip_p_value: float | None


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
    half = student_t_quantile(0.5 + confidence / 2, count - 1) * error
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
    differences = [x - y for x, y in zip(a, b, strict=True)]
    interval = clustered_mean(differences, confidence=confidence)
    if interval.standard_error is None:
        return PairedDifference(interval, None, None)
    t = interval.estimate / interval.standard_error
    p_value = student_t_two_sided(t, interval.clusters - 1)
    return PairedDifference(interval, p_value, _sign_flip(differences))


def _sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the mean under random signs: exact up to 12 values, else 10,000 draws."""
    import numpy as np

    values = np.asarray(differences)
    count = len(values)
    if count <= _EXACT_UP_TO:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        signs = 1 - 2 * bits
    else:
        signs = 1 - 2 * np.random.default_rng(0).integers(0, 2, (_PERMUTATIONS, count))
    observed = abs(values.sum())
    extreme = int((np.abs(signs @ values) >= observed * (1 - 1e-12)).sum())
    if count <= _EXACT_UP_TO:
        return extreme / len(signs)
    return (extreme + 1) / (len(signs) + 1)  # the observed signs are one of the draws


def student_t_cdf(t: float, degrees_of_freedom: float) -> float:
    """P(T <= t) of Student's t."""
    tail = student_t_two_sided(t, degrees_of_freedom) / 2
    return 1 - tail if t > 0 else tail


def student_t_two_sided(t: float, degrees_of_freedom: float) -> float:
    """P(|T| >= |t|), accurate far into the tail."""
    total = degrees_of_freedom + t * t
    if t * t < degrees_of_freedom:  # the complement: 1 - x would lose the digits of a small t
        return 1 - _incomplete_beta(0.5, degrees_of_freedom / 2, t * t / total)
    return _incomplete_beta(degrees_of_freedom / 2, 0.5, degrees_of_freedom / total)


def student_t_quantile(p: float, degrees_of_freedom: float) -> float:
    """The t with P(T <= t) = p, by bisection."""
    if not 0 < p < 1:
        raise ValueError(f"p must lie between 0 and 1 (got {p})")
    if p < 0.5:
        return -student_t_quantile(1 - p, degrees_of_freedom)
    low, high = 0.0, 1.0
    while student_t_cdf(high, degrees_of_freedom) < p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if student_t_cdf(middle, degrees_of_freedom) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta I_x(a, b) by Lentz's continued fraction."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d, tiny)
            c = _away_from_zero(1 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * value / a


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
