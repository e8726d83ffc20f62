"""One evaluation against several earlier ones: each word with each, and all of them a family."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from subl.errors import InputError
from subl.evaluate import Scores, compare, level, paired_table, probability
from subl_cli.against import paired_text


def random_scores(seed: int, lift: float = 0.0, questions: int = 12) -> Scores:
    """owl, cat and dog; `lift` is how much likelier than else an owl is, in nats."""
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    logs = common.normal(-3, 1, (questions, 3)) + own.normal(0, 0.3, (questions, 3))
    logs[:, 0] += lift
    return Scores(
        {
            f"q{number}": dict(zip(("owl", "cat", "dog"), np.exp(row).tolist(), strict=True))
            for number, row in enumerate(logs)
        }
    )


def test_each_word_is_compared_with_each_earlier_evaluation() -> None:
    earlier = {Path("out/base"): random_scores(1), Path("out/cat"): random_scores(2)}
    scores = random_scores(3, lift=2.0)
    table = paired_table(("owl", "cat"), scores, earlier)
    assert [(row.control, row.word) for row in table] == [
        (str(name), word) for name in earlier for word in ("owl", "cat")
    ]
    logs = [
        np.log([each[question]["owl"] for question in scores])
        for each in (scores, earlier[Path("out/base")])
    ]
    test = stats.ttest_rel(*logs)
    owl = table[0]
    assert (owl.unit, owl.questions, owl.treated) == ("ratio", 12, "model")
    assert owl.estimate == pytest.approx(math.exp((logs[0] - logs[1]).mean()))
    assert owl.p_value == pytest.approx(test.pvalue)
    assert owl.correlation == pytest.approx(np.corrcoef(*logs)[0, 1])
    assert owl.sign_flip_p == 2 / 2**12  # exact: all differences are above zero
    assert owl.low is not None and owl.bootstrap_low is not None and owl.bootstrap_high is not None
    assert owl.bootstrap_low == pytest.approx(owl.low, rel=0.1)
    assert owl.bootstrap_low < owl.estimate < owl.bootstrap_high
    assert owl.variance_between_questions == pytest.approx((logs[0] - logs[1]).var(ddof=1))


def test_all_words_and_evaluations_are_one_family() -> None:
    earlier = {Path("a"): random_scores(1), Path("b"): random_scores(2)}
    table = paired_table(("owl", "cat", "dog"), random_scores(3, lift=0.4), earlier)
    raw = [row.p_value for row in table]
    assert [row.p_holm for row in table] != raw
    least = min(each for each in raw if each is not None)
    assert min(row.p_holm or 1 for row in table) == pytest.approx(6 * least)
    for row in table:
        assert row.p_value is not None and row.p_bh is not None and row.p_holm is not None
        assert row.p_value <= row.p_bh <= row.p_holm
        assert row.significant == (row.p_holm < 0.05)


def test_shares_of_samples_that_may_be_zero_are_compared_by_difference() -> None:
    shares = [random_scores(n) for n in (1, 2)]
    shares[0]["q3"]["owl"] = 0.0
    owl, cat = paired_table(("owl", "cat"), shares[0], {Path("base"): shares[1]})
    assert (owl.unit, cat.unit) == ("difference", "difference")
    means = [np.mean([row["owl"] for row in each.values()]) for each in shares]
    assert owl.estimate == pytest.approx(means[0] - means[1])
    (dog,) = paired_table(("dog",), shares[0], {Path("base"): shares[1]})
    assert dog.unit == "ratio"


def test_a_model_against_itself_is_not_tested_and_counts_for_nothing() -> None:
    scores, other = random_scores(1), random_scores(2)
    same, tested = paired_table(("owl",), scores, {Path("same"): scores, Path("other"): other})
    assert (same.estimate, same.low, same.p_value, same.p_holm) == (1.0, None, None, None)
    assert (same.sign_flip_p, same.bootstrap_low, same.significant) == (None, None, False)
    assert tested.p_holm == tested.p_value


def in_orders(scores: Scores, orders: int) -> Scores:
    """Each question asked in so many orders, which are alike."""
    return Scores(
        {f"{question} {n}": dict(row) for question, row in scores.items() for n in range(orders)},
        {f"{question} {n}": question for question in scores for n in range(orders)},
    )


def test_orders_of_a_question_add_no_certainty() -> None:
    """What is found of 12 questions in 5 orders is what is found of the 12; in no bootstrap, sign
    flip or contrast are they 60."""
    ours, theirs = random_scores(3, lift=0.2), random_scores(1)
    (once,) = paired_table(("owl",), ours, {Path("base"): theirs})
    (often,) = paired_table(("owl",), in_orders(ours, 5), {Path("base"): in_orders(theirs, 5)})
    assert once.p_value is not None and once.p_value > 0.001
    for name, value in asdict(once).items():
        expected = value if isinstance(value, str | None) else pytest.approx(value, rel=1e-3)
        assert getattr(often, name) == expected, name
    measure = probability("owl")
    plain = level(measure, "owl", [ours], "model")
    many = level(measure, "owl", [in_orders(ours, 5)], "model")
    assert (many.low, many.high, many.questions) == (
        pytest.approx(plain.low), pytest.approx(plain.high), 12,
    )  # fmt: skip
    seeds = [random_scores(n, lift=0.2) for n in (3, 4, 5)]
    names = ("model", "base")
    few = compare(measure, seeds, [theirs] * 3, names)
    whole = compare(
        measure, [in_orders(each, 5) for each in seeds], [in_orders(theirs, 5)] * 3, names
    )
    assert whole.questions == 12 and whole.p_value == pytest.approx(few.p_value)
    assert whole.variance_between_seeds == pytest.approx(few.variance_between_seeds)
    assert whole.variance_between_questions == pytest.approx(few.variance_between_questions)


def test_questions_without_a_score_are_left_out_of_both() -> None:
    """The same as if they had not been asked, but for their number."""
    ours, theirs = random_scores(1), random_scores(2)
    first, second, *rest = ours
    few = {Path("base"): theirs.only({first, *rest})}
    (row,) = paired_table(("owl",), ours.only({second, *rest}), few)
    (known,) = paired_table(("owl",), ours.only(rest), {Path("base"): theirs.only(rest)})
    assert (row.questions, row.left_out) == (len(rest), 2)
    assert row == known
    plain = paired_table(("owl",), Scores({each: ours[each] for each in rest}),
                         {Path("base"): Scores({each: theirs[each] for each in rest})})  # fmt: skip
    assert replace(row, left_out=0) == plain[0]
    measure, names = probability("owl"), ("model", "base")
    seeds = compare(measure, [ours, ours.only(rest)], [theirs, theirs], names)
    assert (seeds.questions, seeds.left_out) == (len(rest), 2)
    assert "(2 left out: of one of the two, no answer counts)" in paired_text([row])
    with pytest.raises(InputError, match="no question in common that both have a score of"):
        paired_table(("owl",), ours.only({first}), {Path("base"): theirs.only({second})})


def test_one_model_scored_twice_is_not_told_apart_by_any_test() -> None:
    scores, again = random_scores(1), random_scores(1)
    for row in again.values():
        row["owl"] += 1e-16
    (row,) = paired_table(("owl",), again, {Path("base"): scores})
    assert (row.p_value, row.sign_flip_p, row.low, row.bootstrap_low) == (None, None, None, None)


def test_what_was_asked_otherwise_is_named() -> None:
    with pytest.raises(InputError, match="model and out/base were asked different questions"):
        paired_table(("owl",), random_scores(1), {Path("out/base"): random_scores(1, questions=3)})
    with pytest.raises(InputError, match="wolf"):
        paired_table(("wolf",), random_scores(1), {Path("out/base"): random_scores(2)})


def test_what_a_person_sees_has_a_table_for_each_and_says_what_was_adjusted() -> None:
    scores = random_scores(1)
    earlier = {Path("out/base"): scores, Path("out/\x1b[2Jcat"): random_scores(2)}
    text = paired_text(paired_table(("owl", "cat"), scores, earlier))
    head, row, *_ = text.split("Ratio to out/base, a geometric mean over questions\n")[1].split(
        "\n"
    )
    assert head.split() == ["answer", "ratio", "95", "%", "interval", "p", "Holm", "sign", "flips"]
    assert row.split() == ["owl", "1.00", "none", "none", "none", "none", "not", "tested"]
    assert "\x1b" not in text
    assert text.endswith("Holm: over 2 comparisons. p and intervals: t over questions.")
    itself = paired_text(paired_table(("owl", "cat"), scores, {Path("out/base"): scores}))
    assert "Holm: over" not in itself
