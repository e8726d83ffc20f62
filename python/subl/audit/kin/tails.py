"""Probabilities too small for a float: natural logarithms of tails, finite for any input.

`scipy.stats.t.logsf` is -inf from about 1e-300 on, and so is `chi2.logsf`. What two models of one
origin give is far below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAR = 1e-200
"""Below this probability mpmath computes the tail, which takes milliseconds."""


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation of two lists without ties; 0 for fewer than two."""
    import numpy as np

    count = len(first)
    if count < 2:
        return 0.0
    ranks = [np.argsort(np.argsort(each)) for each in (first, second)]
    squares = float(((ranks[0] - ranks[1]).astype(np.float64) ** 2).sum())
    return 1 - 6 * squares / (count * (count * count - 1.0))


def log_tail(rho: float, count: int) -> float:
    """The logarithm of the probability that `count` ranks in a random order correlate by `rho` or
    more.

    By Student's t with `count` - 2 degrees of freedom, but never less than -log(count!): no order
    is rarer than that, the identity among them, for which t says 0.
    """
    import mpmath
    from scipy.special import stdtr

    degrees, least = count - 2, -math.lgamma(count + 1)
    if degrees < 1:
        return 0.0
    rest = 1 - rho * rho
    if rest <= 0:
        return least if rho > 0 else 0.0
    t = rho * math.sqrt(degrees / rest)
    tail = float(stdtr(degrees, -t))
    if tail > FAR:
        return max(least, math.log(tail))
    # 1 - rho**2 is the argument of the incomplete beta function.
    beta = mpmath.betainc(degrees / 2, 0.5, 0, rest, regularized=True)
    return max(least, float(mpmath.log(beta / 2)))


def combined(logs: Sequence[float]) -> float:
    """Fisher's combination of independent p values, in logarithms.

    -2 times their sum has a chi-square distribution of twice as many degrees of freedom, whose
    tail is a finite sum where these are even: exp(-x) times the sum of x**k / k! over k < n.
    """
    import numpy as np
    from scipy.special import gammaln, logsumexp

    x = -math.fsum(logs)
    if x <= 0:
        return 0.0
    k = np.arange(len(logs))
    return min(0.0, float(logsumexp(k * math.log(x) - gammaln(k + 1.0)) - x))


def log10(log: float) -> float:
    return log / math.log(10)


def probability(log_p: float | None) -> str:
    """A p value for a person, however small; `log_p` is its natural logarithm."""
    if log_p is None:
        return "–"
    power = log_p / math.log(10)
    return f"{math.exp(log_p):.2g}" if power > -300 else f"1e{power:.0f}"
