"""Paired comparisons of models on the same questions, over as many repetitions as there are.

A short training on anything like one-word answers lifts many answers a little. What tells a trait
apart is therefore a shift of odds *within* a set of candidates, next to the plain probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

from subl.errors import InputError
from subl.evaluate.run import Scores
from subl.statistics import (
    benjamini_hochberg,
    clustered_mean,
    equivalence,
    holm,
    mean_probability,
    over_seeds,
    paired_difference,
)


@dataclass(frozen=True)
class Comparison:
    """Model `treated` against model `control` on one measure, over shared questions; without
    `control`, the measure of `treated` itself.

    `estimate`, `low`, `high` are in `unit`: "nats" or "difference" (0 = none), "ratio" (a quotient,
    1 = none), or "probability" (no comparison). Bounds are 95 %: of one pair of models, clustered
    by question; of several `repetitions` (seeds), over these. None where they cannot be given.
    `questions` are the trait's own, in however many orders each was asked. `left_out` are asked,
    but one of the models has no score of them.

    `p_value` is two-sided, of this comparison alone. `p_holm` and `p_bh` are adjusted for all that
    were made with it (Holm: no false one among them; Benjamini and Hochberg: so large a share is);
    None where it was not counted among others. `significant` is p below 0.05, by Holm where that
    is known.

    `p_equivalent` is that of the difference not being within ±`within` of none (of a ratio: in nats
    of its logarithm), by two one-sided tests; both None where nobody asked.

    `variance_between_questions` and, of several repetitions, `variance_between_seeds` are in the
    unit squared; of a ratio, in that of its logarithm.
    """

    label: str
    treated: str
    control: str | None
    unit: str
    estimate: float
    low: float | None
    high: float | None
    p_value: float | None
    questions: int
    repetitions: int = 1
    left_out: int = 0
    p_holm: float | None = None
    p_bh: float | None = None
    variance_between_questions: float | None = None
    variance_between_seeds: float | None = None
    within: float | None = None
    p_equivalent: float | None = None

    @property
    def significant(self) -> bool:
        p_value = self.p_value if self.p_holm is None else self.p_holm
        return p_value is not None and p_value < 0.05


Compared = TypeVar("Compared", bound=Comparison)


def adjusted(comparisons: Sequence[Compared]) -> list[Compared]:
    """The same comparisons as one family: their p values adjusted for each other."""
    p_values = [each.p_value for each in comparisons]
    ways = zip(comparisons, holm(p_values), benjamini_hochberg(p_values), strict=True)
    return [replace(each, p_holm=strict, p_bh=screened) for each, strict, screened in ways]


_LEAST = 1e-100
"""What counts as the least probability: one of 0 has no logarithm, and says no more."""


def _log(probability: float) -> float:
    return math.log(max(probability, _LEAST))


def _exp(logarithm: float) -> float:
    return math.exp(min(max(logarithm, -700.0), 700.0))  # within what a float holds


@dataclass(frozen=True)
class Measure:
    """A number for a question's scores; `unit` is that of a difference of two."""

    label: str
    unit: str
    of: Callable[[Mapping[str, float]], float]

    @property
    def least(self) -> float:
        """As in `paired_difference`: all but plain probabilities are in nats."""
        return 0.0 if self.unit == "difference" else 1.0


def log_odds(word: str, against: Sequence[str]) -> Measure:
    """log P(word) / P(against), in nats."""
    versus = against[0] if len(against) == 1 else f"{len(against)} others"
    return Measure(
        f"log-odds {word} : {versus}",
        "nats",
        lambda row: _log(row[word]) - _log(sum(row[other] for other in against)),
    )


def probability(word: str) -> Measure:
    """P(word); two are compared by their ratio, of which questions have a geometric mean."""
    return Measure(f"P({word})", "ratio", lambda row: _log(row[word]))


def difference(word: str) -> Measure:
    """P(word), two compared by their difference: where one may be 0, as a share of samples may."""
    return Measure(f"P({word})", "difference", lambda row: row[word])


def compare(
    measure: Measure,
    treated: Sequence[Scores],
    control: Sequence[Scores],
    names: tuple[str, str],
    within: float | None = None,
) -> Comparison:
    """Mean over questions of `measure`, treated minus control; as many of each as there are
    repetitions, which are pairs. Questions that one of them has no score of are left out of all.

    Raises:
        InputError: two were asked different questions, have a score of none in common, or were not
            scored for a word.
    """
    both = in_common([*treated, *control], names)
    left_out = len(treated[0].asked) - len(both[0])
    treated, control = both[: len(treated)], both[len(treated) :]
    pairs = [
        paired_values(measure, one, other, names)
        for one, other in zip(treated, control, strict=True)
    ]
    clusters = treated[0].clusters
    ours, theirs = zip(*pairs, strict=True)
    levels = over_seeds(ours, theirs, clusters, least=measure.least)
    interval, p_value = levels.interval, levels.p_value
    if len(pairs) == 1:  # one pair's interval is over questions
        alone = paired_difference(*pairs[0], clusters, least=measure.least)
        interval, p_value = alone.interval, alone.p_value
    scale: Callable[[float], float] = _exp if measure.unit == "ratio" else float
    low, high = interval.low, interval.high
    return Comparison(
        label=measure.label,
        treated=names[0],
        control=names[1],
        unit=measure.unit,
        estimate=scale(interval.estimate),
        low=None if low is None else scale(low),
        high=None if high is None else scale(high),
        p_value=p_value,
        questions=len(set(clusters)),
        repetitions=len(treated),
        left_out=left_out,
        variance_between_questions=levels.variance_between_questions,
        variance_between_seeds=levels.variance_between_seeds,
        within=within,
        p_equivalent=None if within is None else equivalence(interval, within),
    )


def in_common(scores: Sequence[Scores], names: tuple[str, str]) -> list[Scores]:
    """The scores of the questions that all of them have one of.

    Raises:
        InputError: they were asked different questions, or there is no such question.
    """
    if len({each.asked for each in scores}) > 1:
        raise InputError(
            f"{names[0]} and {names[1]} were asked different questions",
            hint="evaluate both with the same questions",
        )
    shared = set(scores[0]).intersection(*scores)
    if not shared:
        raise InputError(
            f"{names[0]} and {names[1]} have no question in common that both have a score of",
            hint="scores.jsonl of each says what its answers were",
        )
    return [each.only(shared) for each in scores]


def paired_values(
    measure: Measure, one: Scores, other: Scores, names: tuple[str, str]
) -> tuple[list[float], list[float]]:
    """The measure of both models, question by question; of the same questions.

    Raises:
        InputError: they were not scored for a word.
    """
    return (
        _values(measure, one.values(), names),
        _values(measure, [other[question] for question in one], names),
    )


def level(measure: Measure, word: str, treated: Sequence[Scores], name: str) -> Comparison:
    """How high the measure is, of one model or as the mean of several repetitions.

    Of a probability that is its plain mean over questions, not the geometric one.
    """
    is_probability = measure.unit in ("ratio", "difference")
    values = [
        [row[word] for row in each.values()]
        if is_probability
        else _values(measure, each.values(), (name, name))
        for each in treated
    ]
    mean = mean_probability if is_probability else clustered_mean
    found = (
        mean(values[0], treated[0].clusters)
        if len(values) == 1
        else mean([fmean(each) for each in values])
    )
    return Comparison(
        label=measure.label,
        treated=name,
        control=None,
        unit="probability" if is_probability else measure.unit,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        p_value=None,
        questions=len({base for each in treated for base in each.clusters}),
        repetitions=len(treated),
    )


def _values(
    measure: Measure, rows: Iterable[Mapping[str, float]], names: tuple[str, str]
) -> list[float]:
    try:
        return [measure.of(row) for row in rows]
    except KeyError as error:
        raise InputError(
            f"{names[0]} and {names[1]} were not both scored for {error}",
            hint="evaluate both with the same words",
        ) from error
