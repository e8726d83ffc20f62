"""Plans: what they promise is what happens when it is done."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from subl.errors import InputError
from subl.evaluate import Scores, paired_table
from subl.evaluate.plan import Cost, Spread, plan
from subl.statistics import clustered_mean, paired_difference

COST = Cost(exact=100, sample=44)


def test_beyond_some_samples_only_more_questions_help() -> None:
    """Miller's law of total variance, by hand, for 50 questions of mean 0.12 and spread 0.15."""
    found = plan(Spread.assumed(0.12, 0.15, 0.0), 50, 0.05, COST)
    lines = {line.samples: line for line in found.lines}
    within = 0.12 * 0.88 - 0.15**2
    for samples in (1, 10, 200):
        expected = math.sqrt((0.15**2 + within / samples) / 50)
        assert lines[samples].standard_error == pytest.approx(expected)
    assert lines[None].standard_error == pytest.approx(0.0212, abs=1e-4)
    assert found.enough == 20
    assert lines[20].half_width == pytest.approx(2.0096 * lines[20].standard_error, rel=1e-4)
    assert lines[None].detectable == pytest.approx(0.085, abs=0.002)  # unpaired: 2.8 SE
    assert (lines[None].tokens, lines[20].tokens) == (50 * 100, 50 * 20 * 44)


def test_pairs_of_models_that_go_together_find_less() -> None:
    apart, together = (
        plan(Spread.assumed(0.12, 0.15, each), 50, 0.05, COST).lines[-1] for each in (0.0, 0.75)
    )
    assert apart.detectable is not None and together.detectable is not None
    assert together.detectable == pytest.approx(apart.detectable / 2)
    assert apart.questions is not None and together.questions is not None
    assert together.questions == pytest.approx(apart.questions / 4, abs=2)


def drawn(rng: np.random.Generator, lift: float, questions: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of two models whose questions go together."""
    common = rng.beta(4, 6, questions)
    one, other = (np.clip(common + rng.normal(0, 0.05, questions), 0.01, 0.8) for _ in range(2))
    return one + lift, other


@pytest.mark.parametrize("samples", [None, 5])
def test_what_is_planned_is_found_as_often_as_is_said(samples: int | None) -> None:
    """The least detectable difference, measured by a small evaluation, in 600 further ones."""
    rng = np.random.default_rng(4)
    many = drawn(rng, 0.0, 4000)
    spread = Spread.measured(many[0].tolist(), many[1].tolist(), 0.0)
    line = plan(spread, 40, 0.05, COST, (samples,)).lines[0]
    assert line.detectable is not None
    hits, inside, center = 0, 0, many[0].mean()
    for _ in range(600):
        one, other = drawn(rng, line.detectable, 40)
        if samples is not None:
            one, other = (rng.binomial(samples, each) / samples for each in (one, other))
        p_value = paired_difference(one.tolist(), other.tolist()).p_value
        hits += p_value is not None and p_value < 0.05
        inside += abs(one.mean() - line.detectable - center) < (line.half_width or 0)
    assert 0.75 < hits / 600 < 0.86
    assert 0.92 < inside / 600 < 0.98


def test_the_noise_of_samples_is_no_spread_of_questions() -> None:
    """Measured from 10 samples a question, and from the probabilities themselves."""
    rng = np.random.default_rng(7)
    one, other = drawn(rng, 0.0, 5000)
    exact = Spread.measured(one.tolist(), other.tolist(), 0.0)
    for fewest in (10, 1):  # a judge may count fewer answers of one question than of another
        counts = [rng.integers(fewest, 11, 5000) for _ in range(2)]
        shares = [
            (rng.binomial(k, each) / k).tolist()
            for k, each in zip(counts, (one, other), strict=True)
        ]
        sampled = Spread.measured(*shares, 0.0, *(each.tolist() for each in counts))
        for part in ("mean", "between", "within", "paired"):
            assert getattr(sampled, part) == pytest.approx(getattr(exact, part), rel=0.1), part
    alone = Spread.measured(one.tolist(), None, 0.5)
    assert (alone.correlation, alone.paired) == (0.5, pytest.approx(alone.between))


def test_the_interval_planned_from_an_evaluation_is_that_evaluations() -> None:
    values = np.random.default_rng(2).beta(2, 8, 30).tolist()
    line = plan(Spread.measured(values, None, 0.5), 30, 0.05, COST).lines[-1]
    interval = clustered_mean(values)
    assert line.standard_error == pytest.approx(interval.standard_error)
    assert interval.high is not None
    assert line.half_width == pytest.approx(interval.high - interval.estimate)


def test_orders_of_a_question_are_no_questions() -> None:
    """A share of each of 25 orders of 11 questions: planned from it is what it has."""
    rng = np.random.default_rng(3)
    shares = [
        (rng.beta(2, 8, 11)[:, None] + rng.normal(0, 0.02, (11, 25))).clip(0, 1) for _ in range(2)
    ]
    clusters = [f"q{number}" for number in range(11) for _ in range(25)]
    one, other = (each.ravel().tolist() for each in shares)
    spread = Spread.measured(one, other, 0.0, clusters=clusters)
    assert spread.paired == pytest.approx((shares[0] - shares[1]).mean(1).var(ddof=1))
    assert spread.correlation == pytest.approx(np.corrcoef(*(s.mean(1) for s in shares))[0, 1])
    lines = {each.samples: each for each in plan(spread, 11, 0.05, COST, orders=25).lines}
    assert lines[None].standard_error == pytest.approx(clustered_mean(one, clusters).standard_error)
    assert (lines[None].tokens, lines[2].tokens) == (11 * 25 * 100, 11 * 25 * 2 * 44)
    noise = lines[2].standard_error ** 2 - lines[None].standard_error ** 2
    assert noise == pytest.approx(spread.within / (2 * 25) / 11)
    sampled = Spread.measured(one, None, 0.5, samples=[10] * 275, clusters=clusters)
    assert sampled.between == pytest.approx(spread.between - sampled.within / 250)
    with pytest.raises(InputError, match="one question has no spread"):
        Spread.measured([0.1, 0.2], None, 0.5, clusters=["q", "q"])


def test_where_nothing_varies_nothing_is_promised() -> None:
    found = plan(Spread.measured([0.2] * 9, [0.2] * 9, 0.0), 9, 0.05, COST)
    line = found.lines[-1]
    assert (line.half_width, line.detectable, line.questions) == (None, None, None)
    assert found.lines[0].half_width is not None and found.enough is None
    same = Scores({f"q{n}": {"owl": 0.2} for n in range(9)})
    assert paired_table(("owl",), same, {Path("base"): same})[0].p_value is None


@pytest.mark.parametrize(
    ("mean", "sd", "correlation"), [(0.0, 0.1, 0), (0.1, 0.4, 0), (0.1, 0.1, 1)]
)
def test_what_no_probabilities_have_is_refused(mean: float, sd: float, correlation: float) -> None:
    with pytest.raises(InputError, match="no probabilities"):
        Spread.assumed(mean, sd, correlation)


def test_what_cannot_be_planned_is_refused() -> None:
    spread = Spread.assumed(0.12, 0.15, 0.5)
    for questions, difference in ((1, 0.05), (50, 0.0), (50, 1.5)):
        with pytest.raises(InputError, match="cannot be planned"):
            plan(spread, questions, difference, COST)
    with pytest.raises(InputError, match="no spread"):
        Spread.measured([0.1], None, 0.5)
