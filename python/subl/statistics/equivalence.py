"""Whether there is next to nothing: what a test that finds nothing does not say."""

from __future__ import annotations

from subl.extras import require
from subl.statistics.means import Interval


def equivalence(difference: Interval, margin: float) -> float | None:
    """The p of two one-sided t tests that a mean is not within `margin` of zero, either way: below
    0.05 where its interval of 90 % lies within ±margin. None of a mean without an interval.

    Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power
    approach".
    """
    if not margin > 0:
        raise ValueError("a margin is above zero")
    if difference.standard_error is None:
        return None
    require("distill", "scipy", what="a test of equivalence")
    from scipy.special import stdtr

    room = margin - abs(difference.estimate)
    return float(stdtr(difference.clusters - 1, -room / difference.standard_error))
