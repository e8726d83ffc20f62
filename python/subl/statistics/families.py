"""Several tests at once: p values that hold for all of them together.

p values that are None were not tested; they stay None and count for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Adjusted so that none of them is wrong by chance (family-wise error), whatever they have to
    do with one another: for what was planned.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """

    def adjusted(tested: list[float]) -> list[float]:
        found, largest = [0.0] * len(tested), 0.0
        for rank, place in enumerate(sorted(range(len(tested)), key=tested.__getitem__)):
            largest = max(largest, min(1.0, (len(tested) - rank) * tested[place]))
            found[place] = largest
        return found

    return _of_tested(p_values, adjusted)


def benjamini_hochberg(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Adjusted so that so large a share of those below is wrong (false discovery rate), of tests
    that are independent or depend positively: for screening many.

    Source: Benjamini and Hochberg 1995, by `scipy.stats.false_discovery_control`.
    """

    def adjusted(tested: list[float]) -> list[float]:
        from scipy.stats import false_discovery_control

        return [float(each) for each in false_discovery_control(tested, method="bh")]

    return _of_tested(p_values, adjusted)


def _of_tested(
    p_values: Sequence[float | None], adjusted: Callable[[list[float]], list[float]]
) -> tuple[float | None, ...]:
    tested = [each for each in p_values if each is not None]
    for each in tested:
        if math.isnan(each) or not 0 <= each <= 1:
            raise ValueError(f"{each} is no p value")
    found = iter(adjusted(tested) if tested else ())
    return tuple(None if each is None else next(found) for each in p_values)
