"""Whether there is next to nothing: what a test that finds nothing does not say."""

from __future__ import annotations

from subl.extras import require
from subl.statistics.means import Interval


def equivalence(difference: Interval, margin: float) -> float | None:
    """The p of two one-sided t tests that a mean is not within `margin` of zero, either way: below
    0.05 where its interval of 90 % lies within ±margin. Of clusters that do not differ it is 0 or
    1, by the mean alone; of one cluster None.

    Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power
    approach".
    """
    if not margin > 0:
        raise ValueError("a margin is above zero")
    if difference.clusters < 2:
        return None
    if difference.standard_error is None:
        return 0.0 if abs(difference.estimate) < margin else 1.0
    require("distill", "scipy", what="a test of equivalence")
    from scipy.special import stdtr

    room = margin - abs(difference.estimate)
    return float(stdtr(difference.clusters - 1, -room / difference.standard_error))
