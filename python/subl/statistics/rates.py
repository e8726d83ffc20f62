"""How often something happened, of so many times: of one question's samples, say.

For samples of *several* questions this interval is too narrow by the questions' own spread: their
mean is `mean_probability` of the questions' rates.
"""

from __future__ import annotations

from dataclasses import dataclass

from subl.extras import require


@dataclass(frozen=True)
class Rate:
    """`count` of `trials`. `low` and `high` are Wilson's 95 %; None where nothing was tried.

    `at_most`: what the rate is below with 95 % confidence where it was never seen: 3 / trials.
    """

    count: int
    trials: int
    estimate: float | None
    low: float | None
    high: float | None
    at_most: float | None


def rate(count: int, trials: int, confidence: float = 0.95) -> Rate:
    """A rate with Wilson's interval, and the rule of three where the count is zero.

    Source: Wilson 1927, by `scipy.stats.binomtest`; Hanley and Lippman-Hand 1983, "If nothing goes
    wrong, is everything all right?".
    """
    if not 0 <= count <= trials:
        raise ValueError(f"{count} of {trials}")
    if trials == 0:
        return Rate(0, 0, None, None, None, None)
    require("distill", "scipy", what="an interval")
    from scipy.stats import binomtest

    low, high = binomtest(count, trials).proportion_ci(confidence, method="wilson")
    at_most = min(1.0, 3 / trials) if count == 0 else None
    return Rate(count, trials, count / trials, float(low), float(high), at_most)
