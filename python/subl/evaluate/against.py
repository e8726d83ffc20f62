"""One evaluation against earlier ones: each word with each of them, tested in several ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from subl.errors import InputError
from subl.evaluate.compare import (
    Comparison,
    adjusted,
    compare,
    difference,
    in_common,
    paired_values,
    probability,
)
from subl.evaluate.run import Scores, read_scores
from subl.statistics import cluster_bootstrap, paired_difference


@dataclass(frozen=True)
class Paired(Comparison):
    """A comparison of one word, and what it looks like without Student's t: p under random signs,
    and the interval of a bootstrap over questions, in `unit`. `correlation` is that of the two
    models over questions, of logarithms where `unit` is "ratio"."""

    word: str = ""
    sign_flip_p: float | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    correlation: float | None = None


def read_earlier(
    paths: Sequence[Path], questions: Sequence[str], words: Sequence[str]
) -> dict[Path, Scores]:
    """The scores of earlier evaluations by their paths, all of the same questions and words.

    Raises:
        InputError: one of them is no evaluation, or lacks a question or a word, which is named.
    """
    found: dict[Path, Scores] = {}
    for path in paths:
        scores = read_scores(path)
        if scores.asked != set(questions):
            raise InputError(
                f"{path} was asked other questions than CONFIG has",
                hint="give the CONFIG that it was made with; without one it is the paper's animals",
            )
        for question, row in scores.items():
            if missing := [word for word in words if word not in row]:
                raise InputError(
                    f"{path} has no score of {missing[0]!r} as an answer to {question!r}",
                    hint="give the CONFIG that it was made with",
                )
        found[path] = scores
    return found


def paired_table(
    words: Sequence[str], scores: Scores, earlier: Mapping[Path, Scores], name: str = "model"
) -> list[Paired]:
    """`scores` against each evaluation of `earlier` (by their paths), word by word. All of them
    together are the family that p values are adjusted for.

    Ratios, as geometric means over questions; differences where any probability of these words is
    0, as a share of samples may be: of that there is no ratio.

    Raises:
        InputError: they were asked different questions, or not scored for a word.
    """
    everything = [scores, *earlier.values()]
    positive = all(
        row.get(word, 1.0) > 0 for each in everything for row in each.values() for word in words
    )
    measured, scale = (probability, math.exp) if positive else (difference, float)
    found = []
    for path, other in earlier.items():
        control = str(path)
        for word in words:
            measure = measured(word)
            came = compare(measure, [scores], [other], (name, control))
            one, another = in_common([scores, other], (name, control))
            ours, theirs = paired_values(measure, one, another, (name, control))
            pair = paired_difference(ours, theirs, one.clusters, least=measure.least)
            low = high = None
            if pair.p_value is not None:
                drawn = cluster_bootstrap(pair.differences, one.clusters)
                low, high = drawn.low, drawn.high
            found.append(
                Paired(
                    **asdict(came),
                    word=word,
                    sign_flip_p=pair.sign_flip_p_value,
                    bootstrap_low=_scaled(low, scale),
                    bootstrap_high=_scaled(high, scale),
                    correlation=pair.correlation,
                )
            )
    return adjusted(found)


def _scaled(bound: float | None, scale: Callable[[float], float]) -> float | None:
    return None if bound is None else scale(bound)
