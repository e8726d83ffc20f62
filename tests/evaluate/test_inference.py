"""What is tested and drawn beside t: against closed forms, and against slow obvious references."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from subl.errors import InputError
from subl.statistics import (
    benjamini_hochberg,
    cluster_bootstrap,
    clustered_mean,
    detectable,
    holm,
    label_permutation,
    over_seeds,
    paired_difference,
    power,
    questions_needed,
    random_effects,
    rate,
)

many = settings(deadline=None, derandomize=True, max_examples=50)
few = settings(many, max_examples=8)


# The bootstrap


def naive_bca(values: list[float], draws: int, seed: int) -> tuple[float, float]:
    """Efron 1987, equations 2.3 and 6.6, of the plain mean."""
    rng, sample, normal = np.random.default_rng(seed), np.asarray(values), NormalDist()
    means = np.sort([rng.choice(sample, len(sample)).mean() for _ in range(draws)])
    below = (means < sample.mean()).mean() / 2 + (means <= sample.mean()).mean() / 2
    without = np.asarray([np.delete(sample, n).mean() for n in range(len(sample))])
    far = without.mean() - without
    acceleration = (far**3).sum() / (6 * (far**2).sum() ** 1.5)
    bias = normal.inv_cdf(below)
    shifted = (bias + normal.inv_cdf(each) for each in (0.025, 0.975))
    places = [normal.cdf(bias + each / (1 - acceleration * each)) for each in shifted]
    low, high = np.quantile(means, places)
    return float(low), float(high)


@few
@given(st.lists(st.floats(-5, 5), min_size=6, max_size=20), st.integers(0, 9))
def test_the_bootstrap_is_efrons(values: list[float], seed: int) -> None:
    assume(np.std(values) > 0.1)
    found = cluster_bootstrap(values, seed=seed)
    low, high = naive_bca(values, 4000, seed)
    assert found.estimate == fmean(values) and found.clusters == len(values)
    assert found.low is not None and found.high is not None
    error = float(np.std(values) / np.sqrt(len(values)))
    assert found.low == pytest.approx(low, abs=0.2 * error)
    assert found.high == pytest.approx(high, abs=0.2 * error)
    assert found.standard_error == pytest.approx(error, rel=0.05)


def test_the_bootstrap_draws_clusters_of_any_size_and_the_same_ones_again() -> None:
    values, clusters = [0.1, 0.2, 0.3, 0.9, 0.8, 0.4], ["a", "a", "a", "b", "b", "c"]
    found = cluster_bootstrap(values, clusters)
    assert found == cluster_bootstrap(values, clusters) != cluster_bootstrap(values, clusters, 0.9)
    assert found.estimate == clustered_mean(values, clusters).estimate == fmean(values)
    assert found.low is not None and 0.1 < found.low < fmean(values)
    copies = cluster_bootstrap(values * 3, clusters * 3)
    assert (copies.low, copies.high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize(
    ("values", "clusters"),
    [([0.5], None), ([0.5] * 9, None), ([0.1, 0.9], "aa"), ([0.1, 0.9, 0.9, 0.1], "aabb")],
)
def test_a_bootstrap_of_too_little_gives_no_interval(
    values: list[float], clusters: str | None
) -> None:
    found = cluster_bootstrap(values, clusters)
    assert (found.low, found.high, found.standard_error) == (None, None, None)


def test_bootstrap_and_t_agree_on_many_questions() -> None:
    values = np.random.default_rng(1).normal(0.3, 0.1, 200).tolist()
    drawn, known = cluster_bootstrap(values), clustered_mean(values)
    assert (drawn.low, drawn.high) == pytest.approx((known.low, known.high), abs=0.001)


# Labels


def naive_statistic(matrix: np.ndarray) -> float:
    """Within a student: its own trait over the mean of the others'."""
    return fmean(row[i] - np.delete(row, i).mean() for i, row in enumerate(matrix))


squares = st.integers(2, 5).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(-20, 20).map(lambda k: k / 8), min_size=n, max_size=n),
        min_size=n,
        max_size=n,
    )
)


@many
@given(squares)
def test_labels_are_permuted_in_every_way(matrix: list[list[float]]) -> None:
    values = np.asarray(matrix)
    found = label_permutation([matrix])
    everywhere = [
        naive_statistic(values[list(order)]) for order in itertools.permutations(range(len(matrix)))
    ]
    assert found.exact and found.statistic == pytest.approx(naive_statistic(values), abs=1e-12)
    at_least = sum(each >= naive_statistic(values) - 1e-9 for each in everywhere)
    assert found.p_value == pytest.approx(at_least / len(everywhere))


@many
@given(squares, st.integers(-9, 9))
def test_within_a_student_and_within_a_trait_are_the_same_test(
    matrix: list[list[float]], lift: int
) -> None:
    """And what lifts one trait in all students changes nothing."""
    found = label_permutation([matrix])
    turned = label_permutation([[list(column) for column in zip(*matrix, strict=True)]])
    lifted = label_permutation([[[row[0] + lift, *row[1:]] for row in matrix]])
    for other in (turned, lifted):
        assert other.statistic == pytest.approx(found.statistic, abs=1e-12)
        assert other.p_value == found.p_value


def test_more_than_seven_labels_are_drawn() -> None:
    found = label_permutation([np.eye(9).tolist()])
    assert (found.exact, found.statistic) == (False, pytest.approx(1.0))
    assert found.p_value == 1 / 10_001
    assert label_permutation([np.eye(7).tolist()]).p_value == pytest.approx(1 / math.factorial(7))


def test_the_statistic_is_the_own_trait_of_an_additive_model_over_repetitions() -> None:
    """Least squares with a column for each student, each trait and the diagonal."""
    count, rng = 5, np.random.default_rng(3)
    matrices = [rng.normal(size=(count, count)) + 2 * np.eye(count) for _ in range(4)]
    places = [(i, j) for i in range(count) for j in range(count)]
    design = np.array([[*np.eye(count)[i], *np.eye(count)[j], float(i == j)] for i, j in places])
    fitted = [np.linalg.lstsq(design, each.ravel(), rcond=None)[0][-1] for each in matrices]
    found = label_permutation([each.tolist() for each in matrices])
    assert found.statistic == pytest.approx(np.mean(fitted))
    interval = clustered_mean(fitted)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.repetitions == 4


@pytest.mark.parametrize("matrix", [[], [[1.0]], [[1.0, 2.0]], [[1.0, 2.0], [1.0]]])
def test_what_is_no_matrix_of_teachers_and_students_is_refused(matrix: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="square"):
        label_permutation([matrix])


# Rates


@many
@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_of_a_rate_is_wilsons(count: int, more: int) -> None:
    trials, z = count + more, NormalDist().inv_cdf(0.975)
    found, share = rate(count, trials), count / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = (
        z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2) / (1 + z * z / trials)
    )
    assert found.estimate == share and found.low is not None
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert found.low < found.high  # type: ignore[operator]
    assert (found.at_most is None) == (count > 0)


@pytest.mark.parametrize("trials", [20, 200, 5000])
def test_what_was_never_seen_is_rarer_than_three_in_all(trials: int) -> None:
    """Exactly: 1 - 0.05^(1 / n), which 3 / n is a little above."""
    bound = rate(0, trials).at_most
    assert bound == 3 / trials
    assert 1 - 0.05 ** (1 / trials) < bound < 1.08 * (1 - 0.05 ** (1 / trials))


def test_nothing_tried_is_no_rate() -> None:
    nothing = rate(0, 0)
    assert (nothing.estimate, nothing.low, nothing.high, nothing.at_most) == (None,) * 4
    assert rate(0, 2).at_most == 1.0
    for count, trials in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError):
            rate(count, trials)


# Families

p_values = st.lists(st.none() | st.floats(0, 1), max_size=12)


@many
@given(p_values)
def test_holm_is_a_closed_test_by_bonferroni(values: list[float | None]) -> None:
    """A hypothesis falls if, in every set of hypotheses with it, the least p times their number
    does: with Holm the largest of these."""
    tested = [each for each in values if each is not None][:8]
    everyone = range(len(tested))
    subsets = [s for n in everyone for s in itertools.combinations(everyone, n + 1)]
    expected = [
        max(min(1.0, len(s) * min(tested[k] for k in s)) for s in subsets if one in s)
        for one in everyone
    ]
    assert list(holm(tested)) == pytest.approx(expected)


@many
@given(p_values)
def test_adjusted_p_values_keep_their_places_and_are_no_smaller(
    values: list[float | None],
) -> None:
    for adjusted in (holm(values), benjamini_hochberg(values)):
        assert len(adjusted) == len(values)
        for raw, found in zip(values, adjusted, strict=True):
            assert (found is None) == (raw is None)
            assert raw is None or found is None or raw - 1e-12 <= found <= 1
    for screened, strict in zip(benjamini_hochberg(values), holm(values), strict=True):
        assert screened is None or strict is None or screened <= strict + 1e-12


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.1])
def test_what_is_no_p_value_is_not_adjusted(wrong: float) -> None:
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="no p value"):
            adjust([0.5, wrong])


# Seeds

numbers = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


@many
@given(numbers, st.floats(0, 3))
def test_seeds_of_equal_errors_are_students_t(estimates: list[float], error: float) -> None:
    assume(np.std(estimates) > 1e-3 and (error == 0 or error > 1e-3))
    found = random_effects(estimates, [error] * len(estimates))
    test = stats.ttest_1samp(estimates, 0)
    bounds = test.confidence_interval()
    assert found.p_value == pytest.approx(test.pvalue, abs=1e-9)
    assert (found.interval.low, found.interval.high) == pytest.approx((bounds.low, bounds.high))
    expected = max(0.0, np.var(estimates, ddof=1) - error**2)
    assert found.variance_between == pytest.approx(expected, rel=1e-6, abs=1e-9)


@many
@given(st.integers(2, 6), st.integers(2, 9), st.integers(0, 999))
def test_seeds_and_questions_are_the_two_ways_of_an_analysis_of_variance(
    seeds: int, questions: int, seed: int
) -> None:
    """Expected mean squares of two crossed random factors, without replication."""
    rng = np.random.default_rng(seed)
    table = (
        rng.normal(size=(seeds, 1))
        + rng.normal(size=(1, questions))
        + rng.normal(size=(seeds, questions))
    )
    found = over_seeds(table.tolist())
    mean, rows, columns = table.mean(), table.mean(1), table.mean(0)
    of_seeds = questions * ((rows - mean) ** 2).sum() / (seeds - 1)
    of_questions = seeds * ((columns - mean) ** 2).sum() / (questions - 1)
    total = ((table - mean) ** 2).sum()
    rest = total - of_seeds * (seeds - 1) - of_questions * (questions - 1)
    rest /= (seeds - 1) * (questions - 1)
    between = (found.variance_between_seeds, found.variance_between_questions)
    expected = (max(0.0, (of_seeds - rest) / questions), max(0.0, (of_questions - rest) / seeds))
    assert between == pytest.approx(expected, abs=1e-9)
    test = stats.ttest_1samp(rows, 0)
    assert found.p_value == pytest.approx(test.pvalue)
    assert found.interval.low == pytest.approx(test.confidence_interval().low)


def test_variances_are_found_where_they_are() -> None:
    """Many seeds and questions of known spread: seeds 2, questions 3, the rest 1."""
    rng = np.random.default_rng(5)
    table = (
        2 * rng.normal(size=(400, 1)) + 3 * rng.normal(size=(1, 400)) + rng.normal(size=(400, 400))
    )
    found = over_seeds(table.tolist())
    assert found.variance_between_seeds == pytest.approx(4, rel=0.15)
    assert found.variance_between_questions == pytest.approx(9, rel=0.15)


def test_one_seed_and_seeds_that_are_alike_give_no_interval() -> None:
    alone = over_seeds([[0.1, 0.5, 0.3]])
    assert (alone.interval.low, alone.p_value, alone.variance_between_seeds) == (None, None, None)
    assert alone.variance_between_questions == pytest.approx(0.04)
    alike = over_seeds([[0.1, 0.5, 0.3]] * 3)
    assert (alike.interval.low, alike.interval.high, alike.p_value) == (None, None, None)
    assert alike.variance_between_seeds == 0
    one_question = over_seeds([[0.1], [0.3]])
    assert one_question.variance_between_questions is None
    assert one_question.interval.low is not None


@pytest.mark.parametrize(
    ("estimates", "errors"), [([], []), ([1.0], []), ([1.0, 2.0], [0.0, 1.0]), ([1.0], [-1.0])]
)
def test_errors_that_are_none_are_refused(estimates: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError):
        random_effects(estimates, errors)


def test_tables_of_seeds_are_whole() -> None:
    for table in ([], [[]], [[1.0, 2.0], [1.0]]):
        with pytest.raises(ValueError):
            over_seeds(table)


# Power


@few
@given(st.integers(4, 60), st.floats(0.1, 1.2))
def test_power_is_how_often_the_test_finds_it(questions: int, difference: float) -> None:
    rng = np.random.default_rng(questions)
    samples = rng.normal(difference, 1, (4000, questions))
    found = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert power(difference, 1 / math.sqrt(questions), questions) == pytest.approx(found, abs=0.03)


@many
@given(st.integers(2, 500), st.floats(0.1, 0.99), st.floats(1e-4, 10))
def test_what_is_detectable_is_found_with_the_power_asked_for(
    questions: int, wanted: float, error: float
) -> None:
    difference = detectable(error, questions, wanted)
    assert power(difference, error, questions) == pytest.approx(wanted, abs=1e-6)


@many
@given(st.floats(0.05, 2), st.floats(0.01, 4))
def test_as_many_questions_as_are_needed_and_none_more(difference: float, variance: float) -> None:
    count = questions_needed(difference, variance)
    assert power(difference, math.sqrt(variance / count), count) >= 0.8
    if count > 2:
        fewer = math.sqrt(variance / (count - 1))
        assert power(difference, fewer, count - 1) < 0.8


def test_with_many_questions_it_is_the_rule_of_2_8_standard_errors() -> None:
    assert detectable(1.0, 100_000) == pytest.approx(2.80, abs=0.005)
    assert power(0, 1.0, 50) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: power(1, 0.0, 50),
        lambda: power(1, 1.0, 1),
        lambda: detectable(1.0, 50, wanted=0.01),
        lambda: questions_needed(0, 1.0),
        lambda: questions_needed(1, 0.0),
    ],
)
def test_a_power_of_nothing_is_refused(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]


# What no statistic can be taken of


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused(wrong: float) -> None:
    for taken in (
        lambda: clustered_mean([0.1, wrong]),
        lambda: cluster_bootstrap([0.1, wrong]),
        lambda: paired_difference([0.1, wrong], [0.1, 0.2]),
        lambda: label_permutation([[[1.0, wrong], [0.0, 1.0]]]),
        lambda: random_effects([0.1, wrong], [1.0, 1.0]),
        lambda: over_seeds([[0.1, wrong], [0.1, 0.2]]),
    ):
        with pytest.raises(InputError, match="no finite number"):
            taken()


def test_models_that_rise_and_fall_together_correlate() -> None:
    together = paired_difference([0.1, 0.2, 0.4], [0.2, 0.3, 0.5])
    assert together.correlation == pytest.approx(1.0)
    assert paired_difference([0.1, 0.2], [0.5, 0.5]).correlation is None
