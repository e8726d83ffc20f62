"""The bets of a scan: how often the truth leaves a set, on laws that are known; and what they find.

Laws are of rows of a few tokens over a small vocabulary: log p is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from subl.audit.scan.bank import Candidate
from subl.audit.scan.evidence import Column, Nearest, Race, ranked
from subl.audit.scan.frequencies import Frequencies
from subl.audit.scan.rounds import compared as compared_in_rounds
from subl.audit.scan.rounds import raced as raced_in_rounds
from subl.audit.scan.rounds import round_at

ALPHA = 0.05
STRENGTHS = (0.25, 0.5, 1.5)
COLUMNS: list[Column] = ["own", "strength", "strength", "strength", "moved"]


def laws(generator: np.random.Generator, count: int, spread: float) -> NDArray[np.float64]:
    """Logits of `count` candidates over 12 tokens; the first is the base."""
    base = generator.normal(size=12)
    return np.stack([base, *(base + spread * generator.normal(size=(count - 1, 12)))])


def log_p(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    scaled = logits / temperature
    return np.asarray(scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True))


def strengths(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """log p of `[candidates, ..., tokens]`, each itself and at its strengths: of
    `[columns, candidates, ..., tokens]`."""
    mixed = [log_p(logits[:1] + each * (logits - logits[:1])) for each in STRENGTHS]
    return np.stack([log_p(logits), *mixed])


def log_p_of(own: NDArray[np.float64], said: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of rows `[rows, tokens]` under `strengths`, which may differ by place; `[rows, candidates,
    columns]` with odds moved, as a scan's rounds do that."""
    places = range(said.shape[1])
    by_place = np.broadcast_to(
        own if own.ndim == 4 else own[:, :, None], (*own.shape[:2], len(places), own.shape[-1])
    )
    found = np.moveaxis(by_place[:, :, places, said].sum(-1), (0, 1, 2), (2, 1, 0))
    frequencies, moved = Frequencies(own.shape[1], 1), []
    while len(moved) < len(said):
        some = said[round_at(len(moved), len(said))]
        asked = [each for (each,) in frequencies.moved(range(own.shape[1]))]
        laws = [torch.from_numpy(np.tile(each, (len(some), 1))) for each in by_place[0]]
        gained = [
            each.log_p(law, None, some.ravel().tolist()).reshape(some.shape).sum(1).numpy()
            for each, law in zip(asked, laws, strict=True)
        ]
        expected = np.stack([[each.expected] for each in asked])
        frequencies.add(np.arange(own.shape[1]), expected, *np.unique(some, return_counts=True))
        moved.extend(np.stack(gained, axis=1))
    return np.concatenate([found, found[:, :, :1] + np.array(moved)[:, :, None]], axis=2)


def raced(
    scores: NDArray[np.float64], columns: Sequence[Column] | None = None, *, drop: bool = False
) -> Race:
    """A race over rows `[rows, candidates, columns]`."""
    race = Race(scores.shape[1], columns or COLUMNS[: scores.shape[2]], ALPHA)
    for row in scores:
        race.add(np.where(race.active[:, None], row, np.nan))
        if drop and race.rows % 8 == 0:
            out = ~race.kept
            out[0] = False
            race.drop(out)
    return race


def compared(scores: NDArray[np.float64], *, drop: bool = False) -> Nearest:
    """Who predicts rows `[rows, candidates, temperatures]` best, at the first temperature."""
    near = Nearest(scores.shape[1], ALPHA, 4.0)
    for row in scores:
        near.add(np.where(near.active, row[:, 0], np.nan))
        if drop and near.rows % 8 == 0:
            out = ~near.kept
            out[0] = False
            near.drop(out)
    return near


def rows(
    generator: np.random.Generator, said: NDArray[np.float64], count: int, tokens: int = 6
) -> NDArray[np.int64]:
    return generator.choice(len(said), size=(count, tokens), p=np.exp(said))


def test_the_truth_seldom_leaves_and_the_best_seldom_either() -> None:
    generator = np.random.default_rng(1)
    lost_law = lost_nearest = cried = 0
    sets = 2000
    for number in range(sets):
        own = strengths(laws(generator, 6, 0.4))
        truth = number % 6
        found = rows(generator, own[0, truth], 40)
        scores, drop = log_p_of(own, found), number % 2 == 0
        race = raced(scores, drop=drop)
        lost_law += not race.kept[truth]
        lost_nearest += not compared(scores, drop=drop).kept[truth]
        cried += truth == 0 and race.something() >= -np.log(ALPHA)
    assert lost_law / sets <= ALPHA
    assert lost_nearest / sets <= ALPHA
    assert cried / (sets / 6) <= ALPHA


def test_the_truth_stays_where_odds_are_moved_far() -> None:
    """After thousands of tokens, of an expectation that is learned."""
    generator = np.random.default_rng(15)
    lost, won = 0, []
    for number in range(50):
        own = strengths(laws(generator, 4, 0.4))
        scores = log_p_of(own, rows(generator, own[0, number % 4], 400, tokens=24))
        lost += not raced(scores).kept[number % 4]
        of_truth = scores[:, number % 4]
        won.append(np.exp((of_truth[:, -1] - of_truth[:, 0]).sum()))
    assert lost <= 1
    assert np.mean(won) <= 1


def test_what_is_far_enough_is_named() -> None:
    generator = np.random.default_rng(2)
    named = shown = 0
    for _ in range(50):
        own = log_p(laws(generator, 20, 0.8))
        scores = own[:, rows(generator, own[3], 200)].sum(-1).T[:, :, None]
        race, near = raced(scores, drop=True), compared(scores, drop=True)
        named += race.kept.nonzero()[0].tolist() == [3] == near.kept.nonzero()[0].tolist()
        shown += race.something() > -np.log(ALPHA)  # not where the truth has left, in error
    assert named >= 47
    assert shown >= 48


def test_rows_of_two_candidates_are_nobodys_law() -> None:
    generator = np.random.default_rng(3)
    own = log_p(laws(generator, 10, 1.0))
    found = np.concatenate([rows(generator, own[4], 100), rows(generator, own[7], 100)])
    generator.shuffle(found)
    assert not raced(own[:, found].sum(-1).T[:, :, None]).kept.any()


def test_another_wording_is_told_from_all_candidates() -> None:
    """Between the base and one of the bank, with something of its own: no candidate's law, though
    one stays far ahead of the others."""
    generator = np.random.default_rng(10)
    empty = owners = 0
    for _ in range(20):
        base = generator.normal(size=(24, 12))
        tilts = 0.5 * generator.normal(size=(12, 24, 12))
        tilts[0] = 0
        near = base + 0.7 * tilts[3] + 0.15 * generator.normal(size=base.shape)
        own = strengths(base + tilts)  # by place in the row
        found = np.stack([generator.choice(12, 400, p=np.exp(each)) for each in log_p(near)], 1)
        race = raced(log_p_of(own, found))
        empty += not race.kept.any()
        owners += race.leader == 3
    assert owners == 20
    assert empty == 20


def test_other_tokens_than_a_law_expects_are_bet_against_it() -> None:
    """Rows of a law that has one candidate's pull at its strength, and a little more of some
    tokens than it: the bank has nobody that predicts them better."""
    generator = np.random.default_rng(14)
    empty = without = 0
    for _ in range(20):
        base = generator.normal(size=(24, 12))
        tilts = 0.3 * generator.normal(size=(6, 24, 12))
        tilts[0] = 0
        own = strengths(base + tilts)
        other = log_p(base + tilts[3] + 0.12 * generator.normal(size=12))
        found = np.stack([generator.choice(12, 600, p=np.exp(each)) for each in other], 1)
        scores = log_p_of(own, found)
        empty += not raced(scores).kept.any()
        without += not raced(scores[:, :, :-1]).kept.any()
    assert empty >= 19
    assert without <= 2


class Scanned(NamedTuple):
    race: Race
    near: Nearest | None
    asked: NDArray[np.bool_]


def scanned(scores: NDArray[np.float64], *, exhaustive: bool = False) -> Scanned:
    """What the rounds of a scan come to: candidate 0 is plain, 1 stands for nothing."""
    names = ["plain", "neutral", *(f"trait {number}" for number in range(2, scores.shape[1]))]
    every = [
        Candidate(name, "any", name if place > 1 else None, name if place else None)
        for place, name in enumerate(names)
    ]
    asked = np.zeros(scores.shape[:2], np.bool_)

    def ask(phase: str, start: int, who: NDArray[np.bool_]) -> NDArray[np.float64]:
        some = round_at(start, len(scores))
        asked[some] |= who
        return np.where(asked[some][:, :, None], scores[some], np.nan)

    rows, columns = len(scores), scores.shape[2]
    race, _ = raced_in_rounds(
        *(every, COLUMNS[:columns], ALPHA, rows, ask),
        exhaustive=exhaustive,
    )
    near = None
    if not race.kept.any():
        near = compared_in_rounds(every, ALPHA, 2.0, rows, ask, known=race.rows)
    return Scanned(race, near, asked)


def test_who_is_left_alone_has_to_stay_so_for_a_while() -> None:
    """Rows of a law that the bank does not have, between two of it, are seldom one's of them."""
    generator = np.random.default_rng(11)
    named = wrong = 0
    for _ in range(30):
        logits = laws(generator, 24, 0.5)
        other = log_p((0.5 * (logits[4] + logits[7]))[None])[0]
        own = strengths(logits)
        for truth, said in ((4, own[0, 4]), (None, other)):
            race = scanned(log_p_of(own, rows(generator, said, 600))).race
            alone = race.kept.nonzero()[0].tolist()
            named += truth == 4 and alone == [4]
            wrong += truth is None and len(alone) == 1
    assert named >= 28
    assert wrong <= 1


def test_a_share_of_rows_refutes_the_base_where_all_are_asked() -> None:
    generator = np.random.default_rng(12)
    own = log_p(laws(generator, 8, 1.2))
    found = np.concatenate([rows(generator, own[0], 380), rows(generator, own[3], 40)])
    generator.shuffle(found)
    scores = own[:, found].sum(-1).T[:, :, None]
    race = scanned(scores, exhaustive=True).race
    assert race.something() > -np.log(ALPHA) and not race.kept[0]


def test_who_is_nearest_is_asked_about_all_rows() -> None:
    """One row throws a candidate out of the laws that predicts all others best."""
    generator = np.random.default_rng(13)
    gains = generator.normal(size=(400, 5)) * 0.1
    gains[:, 3] += 0.8
    gains[4, 3] = -30
    found = scanned(gains[:, :, None])
    assert found.near is not None and found.near.kept.nonzero()[0].tolist() == [3]
    assert found.near.leader == 3
    assert found.asked[: found.race.rows, 3].all()


def test_the_nearest_need_not_be_the_truth() -> None:
    generator = np.random.default_rng(9)
    kept = alone = 0
    for _ in range(40):
        logits = laws(generator, 10, 0.8)
        other = log_p((logits[4] + 0.3 * generator.normal(size=12))[None])[0]
        own = log_p(logits)
        near = compared(own[:, rows(generator, other, 400)].sum(-1).T[:, :, None])
        kept += bool(near.kept[4])
        alone += near.kept.nonzero()[0].tolist() == [4]
    assert kept >= 38
    assert alone >= 36


def test_of_an_unknown_temperature_the_truth_seldom_leaves() -> None:
    generator = np.random.default_rng(4)
    grid = (0.5, 1.0, 1.5)
    lost, sets = 0, 400
    for number in range(sets):
        logits = laws(generator, 5, 0.4)
        own = np.stack([log_p(logits, each) for each in grid], axis=-1)
        truth, heat = number % 5, number % 3
        found = rows(generator, own[truth, :, heat], 40)
        race = raced(own[:, found].sum(2).transpose(1, 0, 2), ["own"] * 3)
        lost += not race.kept[truth]
    assert lost / sets <= ALPHA


def test_rows_of_another_temperature_are_nobodys() -> None:
    generator = np.random.default_rng(5)
    logits = laws(generator, 5, 0.4)
    own = np.stack([log_p(logits, each) for each in (1.0, 0.5)], axis=-1)
    found = rows(generator, own[0, :, 1], 200)
    race = raced(own[:, found].sum(2).transpose(1, 0, 2), ["own", "heat"])
    assert not race.kept.any()


def test_some_rows_of_a_candidate_are_seen_among_the_bases() -> None:
    generator = np.random.default_rng(6)
    own = log_p(laws(generator, 4, 1.5))
    found = np.concatenate([rows(generator, own[0], 180), rows(generator, own[2], 20)])
    generator.shuffle(found)
    race = raced(own[:, found].sum(-1).T[:, :, None])
    assert race.something() > -np.log(ALPHA)


def test_scores_of_who_was_dropped_count_no_more() -> None:
    generator = np.random.default_rng(7)
    own = log_p(laws(generator, 4, 1.0))
    found = own[:, rows(generator, own[1], 60)].sum(-1).T[:, :, None]
    race = raced(found[:20])
    before = race.against()[1]
    race.drop(np.array([False, False, True, False]))
    assert np.isclose(race.against()[1], before) and np.isnan(race.against()[2])
    for row in found[20:]:
        race.add(np.where(race.active[:, None], row, np.nan))
    assert np.isfinite(race.against()[[0, 1, 3]]).all()
    with pytest.raises(ValueError, match="no temperature"):
        Race(3, ["heat"], 0.05)


def test_ranks_among_the_bases_own_rows_need_no_law() -> None:
    generator = np.random.default_rng(8)
    high = 0
    for _ in range(500):
        high += ranked(generator.normal(size=30), generator.normal(size=(30, 4))) > -np.log(ALPHA)
    assert high / 500 <= ALPHA
    moved = ranked(generator.normal(size=60) + 1.5, generator.normal(size=(60, 4)))
    assert moved > 5
