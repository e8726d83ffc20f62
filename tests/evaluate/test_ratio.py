"""A ratio of means and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from subl.statistics import ratio


def test_the_interval_holds_the_ratio_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        under = drawn.normal(0.3, 0.06, 5)
        over = 0.8 * under + drawn.normal(0, 0.05, 5)
        found = ratio(over.tolist(), under.tolist())
        held += found.low is None or (found.high is not None and found.low <= 0.8 <= found.high)
    assert 0.93 <= held / 2000 <= 0.97


def test_where_nothing_may_be_below_there_are_no_bounds() -> None:
    found = ratio([0.2, 0.3, 0.1], [0.5, -0.4, 0.2])
    assert found.estimate == pytest.approx(2) and found.low is None and found.high is None
    assert ratio([1.0], [2.0]).low is None
    with pytest.raises(ValueError, match="not zero"):
        ratio([1.0, 2.0], [1.0, -1.0])


def test_what_is_always_half_is_half() -> None:
    found = ratio([0.15, 0.2, 0.25], [0.3, 0.4, 0.5])
    assert found.low == pytest.approx(0.5, abs=1e-6)
    assert found.high == pytest.approx(0.5, abs=1e-6)
