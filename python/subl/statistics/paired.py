"""Two models on the same questions: the mean of the differences, tested in two ways."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from subl.statistics.means import (
    DRAWS,
    SCORED,
    Interval,
    by_cluster,
    clustered_mean,
    finite,
    is_rounding,
)


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b, its interval, and two p values that it is zero: by t, and by sign flips.

    `sums` are those of the differences of each cluster. `correlation` is Pearson's, of a and b over
    clusters: the more alike they are, the narrower is the interval of their difference. None where
    one of them does not vary.
    """

    differences: tuple[float, ...]
    sums: tuple[float, ...]
    interval: Interval
    p_value: float | None
    correlation: float | None

    @cached_property
    def sign_flip_p_value(self) -> float | None:
        """Two-sided p of the mean under random signs of clusters: exact where 10,000 draws are all
        there are (13 clusters), else of so many, the observed signs among them.

        Source: Fisher 1935, "The Design of Experiments", section 21; the observed signs among the
        draws: Phipson and Smyth 2010.
        """
        if self.p_value is None:
            return None
        import numpy as np
        from scipy.stats import permutation_test

        found = permutation_test(
            (np.asarray(self.sums),),
            lambda values, axis: np.abs(values.mean(axis)),
            permutation_type="samples",
            vectorized=True,
            n_resamples=DRAWS,
            alternative="greater",
            rng=0,
        )
        return float(found.pvalue)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    least: float = 0.0,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compare two models on the same questions: the mean of a - b over questions.

    Args:
        clusters: of the questions (default: each its own).
        least: what size values have at least, to what they are known to: 1 of logarithms, which
            have the absolute error that probabilities have relative to themselves.
    """
    differences = tuple(x - y for x, y in zip(a, b, strict=True))
    interval = clustered_mean(differences, clusters, confidence)
    of_clusters = by_cluster(differences, clusters)
    sums = tuple(map(math.fsum, of_clusters))
    together = correlation(*([fmean(each) for each in by_cluster(one, clusters)] for one in (a, b)))
    means = [fmean(each) for each in of_clusters]
    if interval.standard_error is None or is_rounding(
        max(means) - min(means), (*a, *b, least), SCORED
    ):
        certain = Interval(interval.estimate, None, None, None, interval.clusters)
        return PairedDifference(differences, sums, certain, None, together)
    p_value = two_sided(interval.estimate / interval.standard_error, interval.clusters - 1)
    return PairedDifference(differences, sums, interval, p_value, together)


def two_sided(t: float, df: int) -> float:
    """P(|T| >= |t|) of Student's t."""
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(t)))


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation of a and b; None where one of them does not vary."""
    for each in (a, b):
        finite(each)
        if len(each) < 2 or min(each) == max(each):
            return None
    try:
        return statistics.correlation(a, b)
    except statistics.StatisticsError:  # varies by less than rounding
        return None
