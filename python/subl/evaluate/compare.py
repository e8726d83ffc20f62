"""Paired comparisons of models on the same questions, over as many repetitions as there are.

A short training on anything like one-word answers lifts many answers a little. What tells a trait
apart is therefore a shift of odds *within* a set of candidates, next to the plain probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from subl.errors import InputError
from subl.evaluate.run import Scores
from subl.evaluate.statistics import clustered_mean, mean_probability, paired_difference


@dataclass(frozen=True)
class Comparison:
    """Model `treated` against model `control` on one measure, over shared questions; without
    `control`, the measure of `treated` itself.

    `estimate`, `low`, `high` are in `unit`: "nats" (a difference, 0 = none), "ratio" (a quotient,
    1 = none), or "probability" (no comparison). Bounds are 95 %: of one pair of models, clustered
    by question; of several `repetitions` (seeds), over these. None where they cannot be given.
    `significant` is a two-sided p below 0.05, uncorrected.
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

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < 0.05


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


def compare(
    measure: Measure,
    treated: Sequence[Scores],
    control: Sequence[Scores],
    names: tuple[str, str],
) -> Comparison:
    """Mean over questions of `measure`, treated minus control; as many of each as there are
    repetitions, which are pairs.

    Raises:
        InputError: two of a pair were asked different questions, or not scored for a word.
    """
    differences = []
    for one, other in zip(treated, control, strict=True):
        if one.keys() != other.keys():
            raise InputError(
                f"{names[0]} and {names[1]} were asked different questions",
                hint="evaluate both with the same questions",
            )
        ours, theirs = (
            _values(measure, [each[question] for question in one], names) for each in (one, other)
        )
        differences.append([a - b for a, b in zip(ours, theirs, strict=True)])
    if len(differences) > 1:
        differences = [[fmean(each) for each in differences]]
    found = paired_difference(differences[0], [0.0] * len(differences[0]))
    scale: Callable[[float], float] = _exp if measure.unit == "ratio" else float
    low, high = found.interval.low, found.interval.high
    return Comparison(
        label=measure.label,
        treated=names[0],
        control=names[1],
        unit=measure.unit,
        estimate=scale(found.interval.estimate),
        low=None if low is None else scale(low),
        high=None if high is None else scale(high),
        p_value=found.p_value,
        questions=len(treated[0]),
        repetitions=len(treated),
    )


def level(measure: Measure, word: str, treated: Sequence[Scores], name: str) -> Comparison:
    """How high the measure is, of one model or as the mean of several repetitions.

    Of a probability that is its plain mean over questions, not the geometric one.
    """
    is_probability = measure.unit == "ratio"
    values = [
        [row[word] for row in each.values()]
        if is_probability
        else _values(measure, each.values(), (name, name))
        for each in treated
    ]
    means = values[0] if len(values) == 1 else [fmean(each) for each in values]
    found = mean_probability(means) if is_probability else clustered_mean(means)
    return Comparison(
        label=measure.label,
        treated=name,
        control=None,
        unit="probability" if is_probability else measure.unit,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        p_value=None,
        questions=len(treated[0]),
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
