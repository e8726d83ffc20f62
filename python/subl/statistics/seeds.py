"""Repetitions as a second level: whether a trait is handed down is a question about students, and
one trained from another seed is another student. Samples are never pooled over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean, variance

from subl.statistics.means import (
    SCORED,
    Interval,
    around,
    by_cluster,
    finite,
    is_rounding,
)
from subl.statistics.paired import two_sided


@dataclass(frozen=True)
class Pooled:
    """The mean that studies have in common, and the variance between them beyond their errors."""

    interval: Interval
    p_value: float | None
    variance_between: float | None


@dataclass(frozen=True)
class Seeds:
    """The mean over seeds, and how much seeds and questions differ: variances, in the values' unit
    squared. `variance_between_seeds` is beyond what questions alone would make of it; None of one
    seed.

    The interval is for other seeds and *these* questions. What a question has in common for all
    seeds is no part of it, and no number of seeds averages it away.
    """

    interval: Interval
    p_value: float | None
    variance_between_seeds: float | None
    variance_between_questions: float | None


def random_effects(
    estimates: Sequence[float], standard_errors: Sequence[float], confidence: float = 0.95
) -> Pooled:
    """Estimates of several studies as one, of unequal errors or equal ones.

    The variance between them is DerSimonian and Laird's, from Cochran's Q; the interval is Hartung
    and Knapp's, t with k - 1 df, which holds for few studies:

        w = 1 / SE^2,  tau^2 = max(0, (Q - (k - 1)) / (sum w - sum w^2 / sum w))
        v = 1 / (SE^2 + tau^2),  SE(mean)^2 = sum v (y - mean)^2 / ((k - 1) sum v)

    With equal errors that is Student's t of the estimates.

    Source: DerSimonian and Laird 1986; Hartung and Knapp 2001, doi 10.1002/sim.791.

    Raises:
        ValueError: no estimates, or some errors are zero and others are not.
    """
    count = len(estimates)
    if count == 0 or count != len(standard_errors):
        raise ValueError("as many estimates as errors, and one or more")
    finite([*estimates, *standard_errors])
    squares = [error**2 for error in standard_errors]
    if min(standard_errors) < 0 or (min(squares) == 0 < max(squares)):
        raise ValueError("errors are above zero, or all of them are zero")
    if count == 1:
        return Pooled(Interval(estimates[0], None, None, None, 1), None, None)
    between = _between(estimates, squares)
    weights = [1 / (each + between) if each else 1.0 for each in squares]
    mean, spread = _weighted(estimates, weights)
    if is_rounding(math.sqrt(spread / math.fsum(weights)), estimates):
        return Pooled(Interval(mean, None, None, None, count), None, between)
    error = math.sqrt(spread / ((count - 1) * math.fsum(weights)))
    interval = around(mean, error, count, count - 1, confidence)
    return Pooled(interval, two_sided(mean / error, count - 1), between)


def _between(estimates: Sequence[float], squares: Sequence[float]) -> float:
    """tau^2, from estimates and their squared errors."""
    if max(squares) == 0:
        return variance(estimates)
    weights = [1 / each for each in squares]
    total = math.fsum(weights)
    scale = total - math.fsum(w * w for w in weights) / total
    return max(0.0, (_weighted(estimates, weights)[1] - (len(estimates) - 1)) / scale)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """The mean, and the sum of squares about it."""
    mean = math.fsum(w * y for w, y in zip(weights, values, strict=True)) / math.fsum(weights)
    return mean, math.fsum(w * (y - mean) ** 2 for w, y in zip(weights, values, strict=True))


def over_seeds(
    table: Sequence[Sequence[float]],
    control: Sequence[Sequence[float]] | None = None,
    clusters: Sequence[Hashable] | None = None,
    *,
    least: float = 0.0,
    confidence: float = 0.95,
) -> Seeds:
    """Seeds as studies: `table[s][q]` is of seed s and question q, all of the same questions; with
    `control`, its differences from that. Questions of one cluster (default: each its own) are one
    question, of their mean; `least` as in `paired_difference`.

    A question that is high for all seeds moves them alike, so it is no part of what tells seeds
    apart. A seed's error is that of its interaction with questions (two-way analysis of variance
    without replication), one for all seeds:

        SE^2 = sum_sq (y_sq - y_s. - y_.q + y_..)^2 / ((S - 1) (Q - 1)) / Q

    Raises:
        ValueError: no values, or rows that differ in length.
    """
    if not table or not table[0] or len({len(row) for row in table}) > 1:
        raise ValueError("as many values for each seed, and one or more")
    for row in table:
        finite(row)
    against = control or [[0.0] * len(table[0])] * len(table)
    differences = [
        [a - b for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(table, against, strict=True)
    ]
    of_seeds = [fmean(row) for row in differences]
    crossed = [[fmean(each) for each in by_cluster(row, clusters)] for row in differences]
    seeds, questions = len(crossed), len(crossed[0])
    of_rows = [fmean(row) for row in crossed]
    of_questions = [fmean(column) for column in zip(*crossed, strict=True)]
    rest = 0.0
    if seeds > 1 and questions > 1:
        mean = fmean(of_questions)
        residuals = (
            value - of_row - of_question + mean
            for of_row, row in zip(of_rows, crossed, strict=True)
            for of_question, value in zip(of_questions, row, strict=True)
        )
        rest = math.fsum(each * each for each in residuals) / ((seeds - 1) * (questions - 1))
    pooled = random_effects(of_seeds, [math.sqrt(rest / questions)] * seeds, confidence)
    between_questions = max(0.0, variance(of_questions) - rest / seeds) if questions > 1 else None
    values = [least, *chain(*table, *against)]
    if control is not None and is_rounding(max(of_seeds) - min(of_seeds), values, SCORED):
        alike = replace(pooled.interval, low=None, high=None, standard_error=None)
        pooled = replace(pooled, interval=alike, p_value=None)
    return Seeds(pooled.interval, pooled.p_value, pooled.variance_between, between_questions)
