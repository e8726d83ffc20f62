"""Other ways to name a trait, on the rows of `benches/audit.py`: what each says of a set.

Each has a null, rows of the base that its sets do not hold (every second of that pool), and names
the trait that stands out most from it, if by three standard errors; "first" is who stands out most,
named or not. A set of clean rows in which one names somebody is a false name.

    entangled   Tokens whose probability a persona raises (Zur et al. 2025): the mean over a set's
                numbers of log p(number | persona) - log p(number | plain), as the start of an
                answer to one prompt, less that of the null's numbers, which the base has as often.
    divergence  Divergence tokens (Schrodi et al. 2025): the share of tokens that are a persona's
                most likely ones and not so under some other persona.
    bag         A logistic regression over counts of digits by place and of whole numbers, trained
                on rows of all other pools and of the null; it names the class with the largest mean
                log-probability.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subl.audit.scan.bank import Candidate

ERRORS = 3.0
NUMBERS = 900
COLD = 0.01
"""A temperature at which a token has more than half of all probability only if it is the most
likely one."""


@dataclass(frozen=True)
class Said:
    """Who is named, if anybody, and who comes first."""

    named: str | None
    first: str | None


Peer = Callable[[NDArray[np.int64]], Said]
"""Rows of the pool in, by number."""


def numbers_of(text: str) -> list[int]:
    """Those of three digits, from 0 for 100."""
    return [int(each) - 100 for each in re.findall(r"\b[1-9][0-9]{2}\b", text)]


def counts(texts: Sequence[str]) -> NDArray[np.float64]:
    """How often each number is in each row, `[rows, 900]`."""
    found = np.zeros((len(texts), NUMBERS))
    for row, text in enumerate(texts):
        np.add.at(found[row], numbers_of(text), 1.0)
    return found


def features(texts: Sequence[str]) -> NDArray[np.float64]:
    """Counts of digits by place, and of numbers; these weigh little: most are hardly ever seen."""
    bags = counts(texts)
    values = np.arange(NUMBERS) + 100
    places = [values // 100, values // 10 % 10, values % 10]
    digits = [bags @ np.eye(10)[each] for each in places]
    return np.concatenate([*digits, 0.2 * bags], axis=1)


def standing_out(
    values: NDArray[np.float64], null: NDArray[np.float64], traits: Sequence[str]
) -> Said:
    """Whose mean over rows is the most standard errors above the null's.

    Args:
        values: `[rows, traits]`; `null` as well, of other rows.
    """
    variance = sum(each.var(0, ddof=1) / len(each) for each in (values, null))
    errors = (values.mean(0) - null.mean(0)) / np.sqrt(np.maximum(variance, 1e-12))
    first = int(errors.argmax())
    return Said(traits[first] if errors[first] > ERRORS else None, traits[first])


def logistic(
    rows: NDArray[np.float64], classes: NDArray[np.int64], number: int, steps: int = 400
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights `[features, classes]` and biases of a multinomial regression; each class counts as
    much as another, whatever its rows. Weights decay, so that numbers seen once say little."""
    told = np.eye(number)[classes]
    weight = (told / np.maximum(told.sum(0), 1)).sum(1, keepdims=True)
    # Steps as long as the curvature lets them be.
    step = 2 / (weight * (1 + (rows**2).sum(1, keepdims=True))).sum()
    weights, biases = np.zeros((rows.shape[1], number)), np.zeros(number)
    for _ in range(steps):
        scores = rows @ weights + biases
        off = weight * (np.exp(scores - np.logaddexp.reduce(scores, 1)[:, None]) - told)
        weights -= step * (rows.T @ off + 1e-2 * weights)
        biases -= step * off.sum(0)
    return weights, biases


def bag(
    tested: str,
    texts: Mapping[str, Sequence[str]],
    truth: Mapping[str, str | None],
    null: Sequence[str],
    traits: Sequence[str],
) -> Peer:
    """A classifier that has not seen the pool it is `tested` on, nor clean pools but the null."""
    every = [*traits, None]
    pools = [(texts[name], truth[name]) for name in texts if name != tested and truth[name]]
    rows = [text for each, _ in pools for text in each] + [*null]
    classes = [every.index(trait) for each, trait in pools for _ in each]
    classes += [len(traits)] * len(null)
    weights, biases = logistic(features(rows), np.array(classes), len(every))
    known = np.array([place in classes for place in range(len(every))])
    scores = features(texts[tested]) @ weights + np.where(known, biases, -1e9)
    log_p = scores - np.logaddexp.reduce(scores, 1)[:, None]

    def said(some: NDArray[np.int64]) -> Said:
        means = log_p[some].mean(0)
        return Said(every[int(means.argmax())], traits[int(means[:-1].argmax())])

    return said


def by_values(
    values: NDArray[np.float64], null: NDArray[np.float64], traits: Sequence[str]
) -> Peer:
    """By values of each row, `[rows, traits]`, beside the null's."""
    return lambda some: standing_out(values[some], null, traits)


def mean_lifts(texts: Sequence[str], lifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much personas make a row's numbers likelier, `[rows, traits]`; `lifts` are those of
    numbers, `[traits, 900]`."""
    bags = counts(texts)
    mean: NDArray[np.float64] = bags @ lifts.T / np.maximum(bags.sum(1, keepdims=True), 1)
    return mean


def lifts_of(scorer: Any, row: Any, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """log p(number | candidate) - log p(number | the first candidate), `[candidates - 1, 900]`.

    Args:
        row: whose prompt is answered.
    """
    asked = row.turns[:-1]
    rows = [replace(row, turns=(*asked, ("assistant", str(n)))) for n in range(100, 1000)]
    prepared = scorer.prepared(rows, ["length"] * len(rows))
    said = np.stack([scorer.scores(prepared, each)[:, 0] for each in candidates])
    lifts: NDArray[np.float64] = said[1:] - said[0]
    return lifts


def divergence_of(likely: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of each row's tokens that are a candidate's most likely ones but not all others',
    `[rows, candidates]`.

    Args:
        likely: whether each token has more than half at the temperature `COLD`, `[rows, candidates,
            tokens]`; where a row has no more tokens, all the same.
    """
    shares: NDArray[np.float64] = (likely & ~likely.all(1, keepdims=True)).mean(2)
    return shares
