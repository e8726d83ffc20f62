"""Closed forms against scipy and brute force; never a zero-width interval for lack of data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subl.errors import InputError
from subl.evaluate import Scores, log_odds_shift, probability_ratio
from subl.evaluate.statistics import (
    clustered_mean,
    mean_probability,
    paired_difference,
    student_t_cdf,
    student_t_quantile,
    student_t_two_sided,
)

values = st.lists(st.floats(-100, 100), min_size=3, max_size=40).filter(
    lambda each: np.std(each) > 1e-3
)


@given(st.floats(-50, 50), st.integers(1, 500))
def test_student_t_is_scipys(t: float, df: int) -> None:
    assert student_t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), abs=1e-10)
    assert student_t_two_sided(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-8)


@given(st.floats(0.001, 0.999), st.integers(1, 500))
def test_student_t_quantiles_are_scipys(p: float, df: int) -> None:
    assert student_t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-8)


@given(values)
def test_without_clusters_the_interval_is_the_textbook_one(sample: list[float]) -> None:
    interval = clustered_mean(sample)
    low, high = stats.t.interval(0.95, len(sample) - 1, np.mean(sample), stats.sem(sample))
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@given(values, st.integers(2, 5))
def test_copies_of_a_question_add_no_certainty(sample: list[float], copies: int) -> None:
    alone = clustered_mean(sample)
    repeated = clustered_mean(sample * copies, list(range(len(sample))) * copies)
    assert repeated.standard_error == pytest.approx(alone.standard_error, rel=1e-9)
    assert repeated.clusters == alone.clusters


@pytest.mark.parametrize(
    ("sample", "clusters"), [([0.5], None), ([0.5, 0.5], None), ([0.1, 0.9], ["a", "a"])]
)
def test_too_little_data_gives_no_interval(sample: list[float], clusters: list[str] | None) -> None:
    interval = clustered_mean(sample, clusters)
    assert (interval.low, interval.high, interval.standard_error) == (None, None, None)


@given(values, st.integers(0, 1000))
def test_paired_p_is_scipys(sample: list[float], seed: int) -> None:
    other = np.random.default_rng(seed).normal(size=len(sample))
    difference = paired_difference(sample, other.tolist())
    assert difference.p_value == pytest.approx(stats.ttest_rel(sample, other).pvalue, rel=1e-6)


def test_sign_flips_are_exact_where_they_can_be() -> None:
    differences = [0.3, -0.1, 0.4, 0.2, 0.9]
    sums = [
        abs(math.fsum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=5)
    ]
    expected = sum(each >= abs(sum(differences)) - 1e-12 for each in sums) / len(sums)
    found = paired_difference(differences, [0.0] * 5)
    assert found.sign_flip_p_value == expected


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        question = rng.normal(0, 1, 12)
        sample = (question[:, None] + rng.normal(0, 1, (12, 4))).ravel()
        interval = clustered_mean(sample.tolist(), np.repeat(np.arange(12), 4).tolist())
        assert interval.low is not None and interval.high is not None
        covered += interval.low <= 0 <= interval.high
    assert 0.935 < covered / 2000 < 0.965


def scores(*rows: tuple[float, float, float]) -> Scores:
    return {f"q{i}": {"owl": a, "cat": b, "dog": c} for i, (a, b, c) in enumerate(rows)}


def test_shifts_and_ratios_are_what_they_are_called() -> None:
    models = {
        "student": scores((0.2, 0.1, 0.1), (0.4, 0.1, 0.3)),
        "base": scores((0.1, 0.2, 0.2), (0.1, 0.1, 0.1)),
    }
    shift = log_odds_shift(models, "student", "base", "owl", ["cat", "dog"])
    expected = (math.log(0.2 / 0.2) - math.log(0.1 / 0.4) + math.log(0.4 / 0.4) - math.log(0.5)) / 2
    assert shift.estimate == pytest.approx(expected) and shift.unit == "nats"
    ratio = probability_ratio(models, "student", "base", "owl")
    assert ratio.estimate == pytest.approx(math.sqrt(2 * 4)) and ratio.unit == "ratio"
    assert ratio.low is not None and ratio.low < ratio.estimate


def test_other_questions_cannot_be_compared() -> None:
    models = {"a": scores((0.1, 0.1, 0.1)), "b": {"other": {"owl": 0.1, "cat": 0.1, "dog": 0.1}}}
    with pytest.raises(InputError, match="different questions"):
        probability_ratio(models, "a", "b", "owl")


def test_intervals_of_probabilities_stay_probabilities() -> None:
    interval = mean_probability([1e-4, 2e-3, 0.9])
    assert interval.low == 0.0 and interval.high == 1.0
    assert mean_probability([0.4]).low is None
