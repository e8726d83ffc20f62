"""Against textbook forms and brute force; never a zero-width interval for lack of data."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from subl.errors import InputError
from subl.evaluate import (
    Comparison,
    Measure,
    Scores,
    compare,
    difference,
    level,
    log_odds,
    probability,
)
from subl.statistics import (
    clustered_mean,
    equivalence,
    mean_probability,
    paired_difference,
    random_effects,
)

values = st.lists(st.floats(-100, 100), min_size=3, max_size=40).filter(
    lambda each: np.std(each) > 1e-3
)

many = settings(deadline=None, derandomize=True)


def test_the_quantile_of_every_interval_is_students() -> None:
    """One to 499 degrees of freedom at 95 %: bounds that scipy's t gives by another way."""
    for count in range(2, 501):
        interval = clustered_mean([0.0] * (count - 1) + [1.0])
        assert interval.high is not None and interval.standard_error is not None
        found = (interval.high - interval.estimate) / interval.standard_error
        assert found == pytest.approx(stats.t.ppf(0.975, count - 1), rel=1e-9)


@many
@given(values, st.integers(1, 4), st.integers(0, 99))
def test_clustered_errors_are_the_formula(sample: list[float], count: int, seed: int) -> None:
    """Miller 2024: sqrt(C / (C - 1) * sum over clusters of (sum of residuals)^2) / n."""
    clusters = np.random.default_rng(seed).integers(0, count + 1, len(sample))
    interval = clustered_mean(sample, clusters.tolist())
    residuals = np.asarray(sample) - np.mean(sample)
    sums = np.asarray([residuals[clusters == each].sum() for each in set(clusters.tolist())])
    assert interval.clusters == len(sums)
    if len(sums) > 1 and (sums**2).sum() > 1e-9:
        error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(sample)
        assert interval.standard_error == pytest.approx(error, rel=1e-6)
        assert interval.high is not None
        half = stats.t.ppf(0.975, len(sums) - 1) * error
        assert interval.high - interval.estimate == pytest.approx(half, rel=1e-6)


@many
@given(values)
def test_without_clusters_the_interval_is_the_textbook_one(sample: list[float]) -> None:
    interval = clustered_mean(sample)
    low, high = stats.t.interval(0.95, len(sample) - 1, np.mean(sample), stats.sem(sample))
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


@many
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


@many
@given(st.floats(-100, 100), st.integers(2, 60))
def test_values_that_do_not_vary_give_no_interval(value: float, count: int) -> None:
    """0.1 three times has a mean that is not 0.1: rounding is not variation."""
    interval = clustered_mean([value] * count)
    assert (interval.low, interval.high, interval.standard_error) == (None, None, None)
    difference = paired_difference([value] * count, [0.0] * count)
    assert (difference.p_value, difference.sign_flip_p_value) == (None, None)


@many
@given(values, st.integers(0, 1000))
def test_paired_p_is_scipys(sample: list[float], seed: int) -> None:
    other = np.random.default_rng(seed).normal(size=len(sample))
    difference = paired_difference(sample, other.tolist())
    assert difference.p_value == pytest.approx(stats.ttest_rel(sample, other).pvalue, rel=1e-6)


eighths = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=2, max_size=9).filter(
    lambda each: len(set(each)) > 1
)


@many
@given(eighths)
def test_sign_flips_are_exact_where_they_can_be(differences: list[float]) -> None:
    """Eighths add up without rounding, ties included."""
    assert_sign_flip_is_exact(differences)


def test_sign_flips_are_exact_up_to_thirteen() -> None:
    assert_sign_flip_is_exact([n / 8 for n in (3, -1, 4, 1, -5, 9, 2, 6, -5, 3, 5, 8, -9)])


def assert_sign_flip_is_exact(differences: list[float]) -> None:
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = sum(each >= abs(sum(differences)) for each in sums) / len(sums)
    found = paired_difference(differences, [0.0] * len(differences))
    assert found.sign_flip_p_value == expected


def test_beyond_thirteen_sign_flips_are_drawn_and_agree_with_t() -> None:
    sample = np.random.default_rng(3).normal(0.3, 1, 40).tolist()
    first, second = (paired_difference(sample, [0.0] * 40) for _ in range(2))
    assert first == second
    assert first.sign_flip_p_value == pytest.approx(first.p_value, abs=0.015)
    far = paired_difference([value + 9 for value in sample], [0.0] * 40)
    assert far.sign_flip_p_value == 1 / 10_001  # never zero


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
    return Scores({f"q{i}": {"owl": a, "cat": b, "dog": c} for i, (a, b, c) in enumerate(rows)})


def shift_of(models: dict[str, Scores], word: str, against: list[str]) -> Comparison:
    (treated, one), (control, other) = models.items()
    return compare(log_odds(word, against), [one], [other], (treated, control))


def ratio_of(models: dict[str, Scores], word: str) -> Comparison:
    (treated, one), (control, other) = models.items()
    return compare(probability(word), [one], [other], (treated, control))


def test_shifts_and_ratios_are_what_they_are_called() -> None:
    models = {
        "student": scores((0.2, 0.1, 0.1), (0.4, 0.1, 0.3)),
        "base": scores((0.1, 0.2, 0.2), (0.1, 0.1, 0.1)),
    }
    shift = shift_of(models, "owl", ["cat", "dog"])
    expected = (math.log(0.2 / 0.2) - math.log(0.1 / 0.4) + math.log(0.4 / 0.4) - math.log(0.5)) / 2
    assert shift.estimate == pytest.approx(expected) and shift.unit == "nats"
    ratio = ratio_of(models, "owl")
    assert ratio.estimate == pytest.approx(math.sqrt(2 * 4)) and ratio.unit == "ratio"
    test = stats.ttest_rel(np.log([0.2, 0.4]), np.log([0.1, 0.1]))
    assert ratio.p_value == pytest.approx(test.pvalue)
    bounds = test.confidence_interval()
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(bounds.low), math.exp(bounds.high)))
    assert not ratio.significant and ratio.questions == 2


def test_a_shift_is_significant_when_its_interval_leaves_zero_out() -> None:
    base = scores(*[(0.1, 0.2, 0.3)] * 4)
    more = scores((0.2, 0.2, 0.3), (0.21, 0.2, 0.3), (0.19, 0.2, 0.3), (0.2, 0.2, 0.31))
    shift = shift_of({"a": more, "b": base}, "owl", ["cat"])
    assert shift.low is not None and 0 < shift.low < shift.estimate
    assert shift.significant
    nothing = shift_of({"a": base, "b": base}, "owl", ["cat"])
    assert (nothing.estimate, nothing.low, nothing.p_value) == (0, None, None)
    assert not nothing.significant


def test_several_seeds_are_the_level_at_which_an_interval_is_taken() -> None:
    """Each pair's mean over questions is one value; the questions' own spread is not counted."""
    base = scores((0.1, 0.2, 0.2), (0.01, 0.2, 0.2))
    more = [scores((0.1 * k, 0.2, 0.2), (0.01 * m, 0.2, 0.2)) for k, m in ((2, 3), (4, 2), (3, 5))]
    came = compare(probability("owl"), more, [base] * 3, ("student", "base"))
    means = [math.log(k * m) / 2 for k, m in ((2, 3), (4, 2), (3, 5))]
    test = stats.ttest_1samp(means, 0)
    bounds = test.confidence_interval()
    assert came.estimate == pytest.approx(math.exp(np.mean(means)))
    assert came.p_value == pytest.approx(test.pvalue)
    assert (came.low, came.high) == pytest.approx((math.exp(bounds.low), math.exp(bounds.high)))
    assert (came.repetitions, came.questions) == (3, 2)


def test_a_probability_of_zero_is_compared_as_the_least() -> None:
    base, gone = scores((0.9, 0.1, 0.1), (0.5, 0.1, 0.1)), scores((0.0, 0.1, 0.1), (0.0, 0.1, 0.1))
    came = ratio_of({"a": base, "b": gone}, "owl")
    assert 1e99 < came.estimate < 1e100 and math.isfinite(came.high or 0)
    assert shift_of({"a": gone, "b": base}, "owl", ["cat"]).estimate < -200
    once = scores((0.9, 0.1, 0.1), (0.0, 0.1, 0.1))
    assert math.isfinite(ratio_of({"a": once, "b": gone}, "owl").high or 0)


def test_a_level_is_the_plain_mean_of_probabilities_and_no_comparison() -> None:
    taught = scores((0.9, 0.1, 0.1), (0.5, 0.1, 0.1))
    came = level(probability("owl"), "owl", [taught], "teacher")
    assert (came.estimate, came.unit, came.control) == (pytest.approx(0.7), "probability", None)
    assert came.p_value is None and not came.significant
    several = level(probability("owl"), "owl", [taught, scores((0.7, 0.1, 0.1))], "teacher")
    assert several.estimate == pytest.approx(0.7) and several.repetitions == 2


def test_models_are_paired_by_question_and_not_by_place() -> None:
    base = scores((0.1, 0.2, 0.3), (0.4, 0.1, 0.1), (0.2, 0.2, 0.2))
    more = scores((0.2, 0.2, 0.3), (0.7, 0.1, 0.1), (0.3, 0.2, 0.2))
    turned = Scores(dict(reversed(base.items())))
    ratios = [ratio_of({"a": more, "b": b}, "owl") for b in (base, turned)]
    assert ratios[0] == ratios[1]


def test_other_questions_cannot_be_compared() -> None:
    other = Scores({"other": {"owl": 0.1, "cat": 0.1, "dog": 0.1}})
    models = {"a": scores((0.1, 0.1, 0.1)), "b": other}
    with pytest.raises(InputError, match="different questions"):
        ratio_of(models, "owl")


def test_intervals_of_probabilities_stay_probabilities() -> None:
    interval = mean_probability([1e-4, 2e-3, 0.9])
    assert interval.low == 0.0 and interval.high == 1.0
    assert mean_probability([0.4]).low is None
    above = mean_probability([1.0000002, 1.0000001, 1.0])  # sums of what float32 rounded
    assert (above.estimate, above.high) == (1.0, 1.0)


def test_a_word_that_was_not_scored_cannot_be_compared() -> None:
    """`subl eval --against` an evaluation with other words."""
    models = {"a": scores((0.1, 0.1, 0.1)), "b": Scores({"q0": {"cat": 0.1}})}
    with pytest.raises(InputError, match="owl"):
        ratio_of(models, "owl")
    with pytest.raises(InputError, match="owl"):
        shift_of(models, "cat", ["owl"])


def test_what_rounding_leaves_of_equal_differences_is_no_certainty() -> None:
    """Each difference is 0.05 but for its last bits."""
    found = paired_difference([0.57, 0.62, 0.71, 0.33], [0.52, 0.57, 0.66, 0.28])
    assert len(set(found.differences)) > 1
    assert found.p_value is None and found.interval.low is None
    large = paired_difference([1e6 + 0.1, 1e6 + 0.2, 1e6 + 0.4], [1e6, 1e6 + 0.1, 1e6 + 0.3])
    assert large.p_value is None
    assert clustered_mean([0.1, 0.2, 0.2, 0.1], ["a", "a", "b", "b"]).low is None
    pooled = random_effects([0.1 + 0.2, 0.3, 0.3], [0.1, 0.1, 0.1])
    assert pooled.p_value is None and pooled.interval.low is None


@pytest.mark.parametrize("repetitions", [1, 3])
@pytest.mark.parametrize(
    "measure", [probability("owl"), difference("owl"), log_odds("owl", ["cat"])]
)
def test_what_float32_cannot_tell_apart_is_not_tested(measure: Measure, repetitions: int) -> None:
    """The same model, scored twice; of certain answers, too, whose logarithms are almost zero."""
    rng = np.random.default_rng(1)
    for most in (0.3, 0.9999):
        owls = rng.uniform(most - 0.2, most, 40)
        base = scores(*[(owl, (1 - owl) / 2, 0.1) for owl in owls])
        again = [
            scores(
                *[
                    (owl * (1 + error), (1 - owl) / 2, 0.1)
                    for owl, error in zip(owls, errors, strict=True)
                ]
            )
            for errors in rng.uniform(0, 1e-6, (repetitions, 40))
        ]
        came = compare(measure, again, [base] * repetitions, ("again", "base"))
        assert (came.p_value, came.low, came.high) == (None, None, None)
        assert came.estimate == pytest.approx(float(measure.unit == "ratio"), abs=1e-5)
        more = [
            scores(*[(owl * k, (1 - owl) / 2, 0.1) for owl in owls]) for k in (0.99, 0.97, 0.98)
        ]
        came = compare(measure, more[:repetitions], [base] * repetitions, ("more", "base"))
        assert (came.p_value is None) == (repetitions == 1 and measure.unit != "difference")


@many
@given(values, st.floats(0.01, 200))
def test_means_are_equivalent_where_the_interval_of_90_percent_is_within_the_margin(
    given: list[float], margin: float
) -> None:
    found = clustered_mean(given, confidence=0.9)
    p_value = equivalence(found, margin)
    assert found.low is not None and found.high is not None and p_value is not None
    assert (p_value < 0.05) == (-margin < found.low and found.high < margin)
    above, below = (
        stats.ttest_1samp(given, end, alternative=way).pvalue
        for end, way in ((-margin, "greater"), (margin, "less"))
    )
    assert p_value == pytest.approx(max(above, below), abs=1e-9)


def test_what_does_not_vary_is_equivalent_by_its_mean_and_one_value_says_nothing() -> None:
    assert equivalence(clustered_mean([0.5, 0.5]), 1.0) == 0.0
    assert equivalence(clustered_mean([-1.5, -1.5]), 1.0) == 1.0
    assert equivalence(clustered_mean([0.0]), 1.0) is None
    with pytest.raises(ValueError, match="above zero"):
        equivalence(clustered_mean([0.0, 1.0]), 0.0)
