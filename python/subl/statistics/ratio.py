"""A ratio of two means of the same repetitions, such as the share of an effect that is removed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import correlation, fmean, variance

from subl.extras import require


@dataclass(frozen=True)
class Ratio:
    """A ratio of means with its interval; bounds are None where the lower mean may be zero: then
    any ratio may be."""

    estimate: float
    low: float | None
    high: float | None


def ratio(over: Sequence[float], under: Sequence[float], confidence: float = 0.95) -> Ratio:
    """Mean of `over` by mean of `under`, pairs of which are of one repetition (a seed).

    The interval holds the r for which the mean of over - r under is not told from zero by
    Student's t with n - 1 df.

    Source: Fieller 1954, "Some Problems in Interval Estimation".

    Raises:
        ValueError: there are no pairs, or the lower mean is zero.
    """
    count = len(over)
    if not count or count != len(under) or not fmean(under):
        raise ValueError("as many above as below, one or more, whose mean below is not zero")
    a, b = fmean(over), fmean(under)
    if count < 2:
        return Ratio(a / b, None, None)
    require("distill", "scipy", what="an interval")
    from scipy.special import stdtrit

    t = float(stdtrit(count - 1, 0.5 + confidence / 2))
    aa, bb = (variance(each) * t**2 / count for each in (over, under))
    varies = aa > 0 and bb > 0
    ab = correlation(over, under) * math.sqrt(aa * bb) if varies else 0.0
    lead, middle, rest = b * b - bb, a * b - ab, a * a - aa
    if lead <= 0:
        return Ratio(a / b, None, None)
    root = math.sqrt(max(middle**2 - lead * rest, 0.0))  # below zero by rounding alone
    return Ratio(a / b, (middle - root) / lead, (middle + root) / lead)
