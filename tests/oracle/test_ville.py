"""ville as an oracle: what bets of a scan come to, and when they win."""

from __future__ import annotations

import numpy as np
import ville
from numpy.typing import NDArray
from ville import evalues

from subl.audit.scan.evidence import SHARES, Nearest, Race

ALPHA = 0.05


def scores_of(generator: np.random.Generator, count: int, rows: int) -> NDArray[np.float64]:
    """log p of rows of the first candidate under all, `[rows, candidates]`."""
    logits = generator.normal(size=(count, 20))
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    said = generator.choice(20, size=(rows, 4), p=np.exp(log_p[0]))
    return np.asarray(log_p[:, said].sum(-1).T)


def test_bets_on_something_are_a_mean_of_products() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        scores = scores_of(generator, 6, 30)
        race = Race(6, ["own"], ALPHA)
        for row in scores:
            race.add(row[:, None])
        ratios = np.exp(scores[:, 1:] - scores[:, :1])
        bets = 1 + np.array(SHARES)[:, None, None] * (ratios - 1)  # [shares, rows, candidates]
        for rows in (1, 7, 30):
            products = evalues.combine(bets[:, :rows], "product", axis=1)
            assert np.isclose(
                np.exp(race.history[rows - 1][0]), evalues.combine(products, axis=None)
            )


def test_all_that_others_bet_against_the_base_is_an_e_value() -> None:
    """Under the base's own rows the mean of A_0 is 1 at most; and ville's p values of it, at any
    time, are seldom small."""
    generator = np.random.default_rng(2)
    last, small = [], 0
    for _ in range(2000):
        race = Race(4, ["own"], ALPHA)
        for row in scores_of(generator, 4, 25):
            race.add(row[:, None])
        against = np.array([each for _, each in race.history])
        last.append(np.exp(against[-1]))
        small += bool(evalues.e_to_p(np.exp(against.max())) <= ALPHA)
    assert evalues.combine(np.array(last)) <= 1.2  # three standard errors and more
    assert small / 2000 <= ALPHA


def test_who_is_nearer_is_found_when_their_bets_find_it() -> None:
    """Of two candidates whose differences are bounded: the same mean, bet on in two ways."""
    generator = np.random.default_rng(3)
    clip, sets = 2.0, 200
    ours: dict[float, list[int]] = {0.0: [], 0.5: []}
    theirs: dict[float, list[int]] = {0.0: [], 0.5: []}
    for mean in ours:
        for _ in range(sets):
            gains = (mean + generator.normal(size=300)).clip(-clip, clip)
            near = Nearest(2, ALPHA, clip)
            for gain in gains:
                near.add(np.array([0.0, gain]))
            test = ville.BettingTest(0.0, (-1.0, 1.0), "greater", ALPHA).fit(gains / clip)
            ours[mean].append(int(near.left[0]))
            theirs[mean].append(int(test.stopping_time() or 0))
    for found in (ours, theirs):
        assert sum(row > 0 for row in found[0.0]) / sets <= ALPHA
        assert min(found[0.5]) > 0
    assert 0.5 <= np.median(ours[0.5]) / np.median(theirs[0.5]) <= 1.5
