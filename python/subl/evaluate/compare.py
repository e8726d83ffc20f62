"""Paired comparisons of two models on the same questions.

A short training on anything like one-word answers lifts many answers a little. What tells a trait
apart is therefore a shift of odds *within* a set of candidates, next to the plain probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from subl.errors import InputError
from subl.evaluate.run import Scores
from subl.evaluate.statistics import paired_difference


@dataclass(frozen=True)
class Comparison:
    """Model `treated` against model `control` on one measure, over shared questions.

    `estimate`, `low`, `high` are in `unit`: "nats" (a difference, 0 = none) or "ratio" (a quotient,
    1 = none). Bounds are 95 %, clustered by question; None where they cannot be given.
    `significant` is a two-sided p below 0.05, uncorrected.
    """

    label: str
    treated: str
    control: str
    unit: str
    estimate: float
    low: float | None
    high: float | None
    p_value: float | None
    questions: int

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < 0.05


def log_odds_shift(
    scores: Mapping[str, Scores], treated: str, control: str, word: str, against: Sequence[str]
) -> Comparison:
    """Mean over questions of log P(word)/P(against), treated minus control, in nats."""

    def log_odds(row: Mapping[str, float]) -> float:
        return math.log(row[word]) - math.log(sum(row[other] for other in against))

    versus = against[0] if len(against) == 1 else f"{len(against)} others"
    return _compare(scores, treated, control, f"log-odds {word} : {versus}", "nats", log_odds)


def probability_ratio(
    scores: Mapping[str, Scores], treated: str, control: str, word: str
) -> Comparison:
    """Geometric mean over questions of P(word | treated) / P(word | control)."""
    return _compare(
        scores, treated, control, f"P({word})", "ratio", lambda row: math.log(row[word])
    )


def _compare(
    scores: Mapping[str, Scores],
    treated: str,
    control: str,
    label: str,
    unit: str,
    measure: Callable[[Mapping[str, float]], float],
) -> Comparison:
    first, second = scores[treated], scores[control]
    if first.keys() != second.keys():
        raise InputError(
            f"{treated} and {control} were asked different questions",
            hint="evaluate both with the same questions",
        )
    try:
        ours = [measure(first[question]) for question in first]
        theirs = [measure(second[question]) for question in first]
    except KeyError as error:
        raise InputError(
            f"{treated} and {control} were not both scored for {error}",
            hint="evaluate both with the same words",
        ) from error
    difference = paired_difference(ours, theirs)
    scale: Callable[[float], float] = math.exp if unit == "ratio" else float
    low, high = difference.interval.low, difference.interval.high
    return Comparison(
        label=label,
        treated=treated,
        control=control,
        unit=unit,
        estimate=scale(difference.interval.estimate),
        low=None if low is None else scale(low),
        high=None if high is None else scale(high),
        p_value=difference.p_value,
        questions=len(first),
    )
