"""statsmodels as an oracle: adjusted p values, clustered errors, seeds and power are its.

Needs tests/oracle/requirements.txt; without it these tests are skipped, unless
SUBL_REQUIRE_STATSMODELS is set.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.statistics import (
    benjamini_hochberg,
    clustered_mean,
    detectable,
    holm,
    power,
    questions_needed,
    random_effects,
    rate,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # what statsmodels warns of is not ours

some = settings(deadline=None, derandomize=True, max_examples=25)


def library(name: str) -> Any:
    if os.environ.get("SUBL_REQUIRE_STATSMODELS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


@some
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_families(values: list[float]) -> None:
    multitest = library("statsmodels.stats.multitest")
    for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        theirs = multitest.multipletests(values, method=method)[1]
        assert list(ours(values)) == pytest.approx(theirs.tolist())


@some
@given(st.integers(5, 40), st.integers(0, 99))
def test_clustered_errors(count: int, seed: int) -> None:
    """Of a regression on a constant, their factor C / (C - 1) * (n - 1) / (n - 1) being ours."""
    library("statsmodels.api")
    linear = library("statsmodels.regression.linear_model")
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 4, count)
    groups[:2] = 0, 1
    values = rng.normal(size=count) + groups
    fitted = linear.OLS(values, np.ones(count)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}, use_t=True
    )
    found = clustered_mean(values.tolist(), groups.tolist())
    ((low, high),) = fitted.conf_int()
    assert found.standard_error == pytest.approx(fitted.bse[0])
    assert (found.low, found.high) == pytest.approx((low, high))


@some
@given(st.integers(2, 10), st.integers(0, 99))
def test_seeds(count: int, seed: int) -> None:
    """DerSimonian and Laird's variance, Hartung and Knapp's interval."""
    meta = library("statsmodels.stats.meta_analysis")
    rng = np.random.default_rng(seed)
    estimates, errors = rng.normal(size=count), rng.uniform(0.1, 1.5, count)
    theirs = meta.combine_effects(estimates, errors**2, method_re="dl", use_t=True)
    ours = random_effects(estimates.tolist(), errors.tolist())
    assert ours.variance_between == pytest.approx(max(0.0, theirs.tau2), abs=1e-12)
    below = theirs.tau2 < 0  # they go on with a negative variance; none is their fixed effects
    mean = theirs.mean_effect_fe if below else theirs.mean_effect_re
    assert ours.interval.estimate == pytest.approx(mean)
    error = theirs.sd_eff_w_fe_hksj if below else theirs.sd_eff_w_re_hksj
    assert ours.interval.standard_error == pytest.approx(error)
    low, high = theirs.conf_int(use_t=True)[2 if below else 3]
    assert (ours.interval.low, ours.interval.high) == pytest.approx((low, high))


@some
@given(st.integers(3, 60), st.floats(0.1, 0.6))  # their tails are NaN beyond
def test_power(questions: int, difference: float) -> None:
    test = library("statsmodels.stats.power").TTestPower()
    error = 1 / np.sqrt(questions)
    theirs = test.power(difference, questions, 0.05, alternative="two-sided")
    assert power(difference, error, questions) == pytest.approx(theirs, abs=1e-7)
    least = test.solve_power(None, questions, 0.05, 0.8, "two-sided")
    assert detectable(error, questions) == pytest.approx(float(least), rel=1e-4)
    needed = test.solve_power(difference, None, 0.05, 0.8, "two-sided")
    assert questions_needed(difference, 1.0) == max(2, int(np.ceil(float(np.squeeze(needed)))))


@some
@given(st.integers(0, 60), st.integers(1, 60))
def test_rates(count: int, more: int) -> None:
    proportion = library("statsmodels.stats.proportion")
    theirs = proportion.proportion_confint(count, count + more, method="wilson")
    ours = rate(count, count + more)
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-9)
