"""Which persona wrote these rows? Bets on what each of them says of the next row; no model here.

Everything is of log p_k(row), row by row, k a candidate of the bank, 0 the plain base. There are
three bets. Each is an e-process: under its hypothesis its mean is 1 at most at any time, so that it
reaches 1 / alpha with probability alpha at most, whenever one looks (Ville).

    something  Rows of the base, or partly (a share q of them) of a candidate? The mean of
               prod_i (1 - q + q p_k / p_0) over candidates and shares; a mean of e-processes is one
               (Vovk and Wang 2021). A tenth of what is bet against the base's law is bet so.
    law        C, a confidence set: k leaves it once others have bet against it with success,
               A_k = prod_i q_i / p_k >= 1 / alpha, for a mixture of five q: the candidates' own
               (Bayes: sum_j w_j prod_i p_j); one who changes between them; one who takes each row
               to be of a mixture of them at all temperatures and strengths, whose weights he
               learns from the rows before; k itself at other strengths, p_0^(1-s) p_k^s / Z token
               by token (against the plain base: everybody at those); and k itself with the odds of
               tokens moved as the rows before have it (`subl.audit.scan.frequencies`). The last
               three make C empty where a law that the bank does not have wrote the rows: they have
               some of a candidate's pull, but not as much as its own rows, or other tokens than it
               expects.
               Only the candidate that is the truth can
               leave in error, so the number of candidates costs nothing. None need be: C may
               become empty.
    nearest    N, a confidence set of those who predict the rows best, of whom none need be the
               truth. k leaves it once bets on another being better, prod_i (1 + b d_i),
               d_i = (log p_j - log p_k) / clip, cut at 1, reach 1 / alpha; j is who leads before
               row i, b several shares, mixed (forecasters compared by betting: Choe and Ramdas
               2023). Only the best can leave in error, so again their number costs nothing.

Where the rows' temperature is not known, a hypothesis has its best one of a grid, and those who bet
against it the mean over the grid (universal inference; Wasserman, Ramdas and Balakrishnan 2020).

A candidate may be dropped: nobody asks any more what it says. Its bets stay what they were then,
which is to stop betting, and that is allowed at any time. Whoever has left C is dropped, which is
most of what a scan saves. N is asked for where C has become empty, over the same rows from the
first: its bets are those that it would have made while they came in, so that it does not matter
when they are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of rows that may be a candidate's, the others being the base's."""

Column = Literal["own", "heat", "strength", "moved"]
"""What log p is of: a temperature that may be the rows' own; another one, which is nobody's law,
but is bet with; another strength of the candidate; the candidate's law with odds moved."""

_OWN, _BAYES, _SHARED = 0.9, 0.6, 0.1
"""What is bet on one candidate at a temperature that may be the rows' own, of what is bet on one
candidate; that, of what is bet against a law by others; and what is bet on shares, against the
base's."""

_ITSELF = 0.2
"""What is bet on a law's own strengths; and on its odds moved."""

BETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Shares of what there is that are bet on being better."""

_SWITCH = 0.02
"""Of its belief, what the one who bets on changing candidates spreads over all after each row."""


_PRIOR = 2.0
"""Rows that the one who learns a mixture takes to have seen before, evenly of all."""


class _Bets:
    """Bets by which candidates leave a set, while rows come in.

    Args:
        count: of candidates; 0 is the plain base.
        alpha: how often the one that belongs into the set may leave it, at most.
    """

    sums: NDArray[np.float64]
    """What each has gained so far; of who is dropped, until then."""

    def __init__(self, count: int, alpha: float) -> None:
        self._bar = -np.log(alpha)
        self.rows = 0
        self.active = np.ones(count, np.bool_)
        """Who is still asked."""
        self.left = np.zeros(count, np.int64)
        """After how many rows each left the set; 0: it has not."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """The set: C of a `Race`, N of `Nearest`."""
        found: NDArray[np.bool_] = self.left == 0
        return found

    @property
    def leader(self) -> int:
        """Who has predicted the rows best so far."""
        return int(np.where(self.active, self.sums, -np.inf).argmax())

    def drop(self, out: NDArray[np.bool_]) -> None:
        """Ask these no more. Who has not left the set by now stays in it."""
        self.active &= ~out

    def _leave(self, against: NDArray[np.float64]) -> None:
        """Those leave against whom bets have come to enough; logs."""
        self.left[(against >= self._bar) & self.kept] = self.rows


class Race(_Bets):
    """Who may have written the rows.

    Args:
        columns: of log p.
    """

    def __init__(self, count: int, columns: Sequence[Column], alpha: float) -> None:
        if "own" not in columns:
            raise ValueError("no temperature may be the rows' own")
        super().__init__(count, alpha)
        self._own, self._heats, self._strengths, self._moved = (
            np.array([each == column for each in columns]) for column in get_args(Column)
        )
        self._first = int(np.flatnonzero(self._own)[0])
        grid = len(columns)
        self._sums: NDArray[np.float64] = np.zeros((count, grid))
        self._frozen: NDArray[np.float64] = np.full((count, grid, count), np.nan)
        """Of who was dropped: what its bets on each temperature against each had come to."""
        self._something = np.zeros((count, len(SHARES), grid))
        self._belief = np.full(count, -np.log(count))
        self._switching = 0.0
        self._learned = 0.0
        self._seen = np.zeros((count, grid))
        """Rows so far, by whose they most likely were."""
        self.history: list[tuple[float, float]] = []
        """After each row: log of the e-value against all rows being the plain base's, and of A_0.
        """
        self.sums = self._sums[:, self._first]  # a view: log p, at the rows' own temperature

    def drop(self, out: NDArray[np.bool_]) -> None:
        """Ask these no more. Who has not left C by now stays in it, and what it had won stays."""
        new = out & self.active
        # What an alternative (j, temperature) had won from each hypothesis stays.
        self._frozen[new] = self._sums[new][:, :, None] - self._best()[None, None, :]
        super().drop(out)

    def add(self, scores: NDArray[np.float64]) -> None:
        """The next row.

        Args:
            scores: log p of the row, `[candidates, columns]`; NaN of who is not asked.
        """
        active = self.active
        self.rows += 1
        with np.errstate(invalid="ignore"):
            self._bet_on_something(scores)
            self._bet_on_switching(scores)
            self._bet_on_a_mixture(scores)
        self._sums[active] += scores[active]
        against = self.against()
        self.history.append((self.something(), float(against[0])))
        self._leave(against)

    @property
    def settled(self) -> bool:
        """Whether bets against one who is left have lost, to alpha of what was staked: against the
        truth they lose for ever, against whoever passes for it they stand still first. Who moves
        odds loses little, the less is moved: it is enough that he loses at all."""
        won = self._won(moved=False)
        if self._moved.any():
            won = np.where(self._itself(self._moved) >= 0, np.inf, won)
        left = won[self.kept & self.active]
        return bool(left.size) and float(left.min()) <= -self._bar

    def something(self) -> float:
        """Log of the e-value against all rows being the plain base's."""
        others = self._something[1:][:, :, self._own]
        if not others.size:
            return 0.0
        return float(_mean(others.reshape(-1, others.shape[-1]), 0).min())

    def against(self) -> NDArray[np.float64]:
        """Log A_k of each candidate; NaN of who was dropped."""
        return self._won(moved=True)

    def _won(self, *, moved: bool) -> NDArray[np.float64]:
        """Log A_k, with or without who moves odds."""
        best = self._best()
        count = len(best)
        # [k, (j, temperature)]: what j had won from k.
        won = np.where(
            self.active[None, :, None],
            self._sums[None] - best[:, None, None],
            np.moveaxis(self._frozen, 2, 0),
        )
        own = np.eye(count, dtype=np.bool_)[:, :, None] & self._own
        won = np.where(own, -np.inf, won)
        bayes = _mean(won[:, :, self._own].reshape(count, -1), 1)
        if self._heats.any():
            other = _mean(won[:, :, self._heats].reshape(count, -1), 1)
            bayes = np.logaddexp(np.log(_OWN) + bayes, np.log1p(-_OWN) + other)
        others = np.logaddexp(self._switching, self._learned) - np.log(2) - best
        found = np.logaddexp(np.log(_BAYES) + bayes, np.log1p(-_BAYES) + others)
        itself = []
        if self._strengths.any():
            itself.append(self._itself(self._strengths))
            itself[0][0] = _mean(won[0][:, self._strengths].ravel(), 0)  # it has none: all others'
        if moved and self._moved.any():
            itself.append(self._itself(self._moved))
        rest = np.log1p(-_ITSELF * len(itself)) + found
        found = np.logaddexp.reduce([rest, *(np.log(_ITSELF) + each for each in itself)])
        shared = np.log(_SHARED) + self.something()
        found[0] = np.logaddexp(np.log1p(-_SHARED) + found[0], shared)
        return np.where(self.active, found, np.nan)

    def _itself(self, columns: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each candidate's own columns won from it."""
        return _mean(self._sums[:, columns], 1) - self._best()

    def _best(self) -> NDArray[np.float64]:
        best: NDArray[np.float64] = self._sums[:, self._own].max(axis=1)
        return best

    def _bet_on_something(self, scores: NDArray[np.float64]) -> None:
        gains = scores - scores[0]  # [candidates, columns]
        for number, share in enumerate(SHARES):
            rest = np.log1p(-share) if share < 1 else -np.inf
            won = np.logaddexp(rest, np.log(share) + gains)
            self._something[self.active, number] += won[self.active]

    def _bet_on_switching(self, scores: NDArray[np.float64]) -> None:
        """Fixed share over those who are asked (Herbster and Warmuth 1998)."""
        first = scores[:, self._first]
        belief = np.where(self.active, self._belief, -np.inf)
        belief -= np.logaddexp.reduce(belief)
        said = np.where(self.active, belief + first, -np.inf)
        won = np.logaddexp.reduce(said)
        self._switching += won
        kept = np.log1p(-_SWITCH) + said - won
        spread = np.log(_SWITCH) - np.log(self.active.sum())
        self._belief = np.where(self.active, np.logaddexp(kept, spread), -np.inf)

    def _bet_on_a_mixture(self, scores: NDArray[np.float64]) -> None:
        """Of who is asked, at all temperatures and strengths; weights by the share of earlier rows
        that was most likely theirs (one step of EM a row, before the row is seen)."""
        asked = self.active[:, None] & ~self._moved[None]
        weights = np.where(asked, self._seen + _PRIOR / asked.sum(), 0.0)
        log_weights = np.log(
            weights / weights.sum(), where=asked, out=np.full(asked.shape, -np.inf)
        )
        said = np.where(asked, log_weights + scores, -np.inf)
        won = np.logaddexp.reduce(said, axis=None)
        self._learned += won
        self._seen += np.exp(said - won)


class Nearest(_Bets):
    """Who predicts the rows best, at their own temperature.

    Args:
        clip: nats a row; by more than that nobody is better than another.
    """

    def __init__(self, count: int, alpha: float, clip: float) -> None:
        super().__init__(count, alpha)
        self._clip = clip
        self.sums = np.zeros(count)  # of what each gains over the base, clipped
        self._better = np.zeros((count, len(BETS)))
        """Log of what bets on another than each came to."""

    def add(self, scores: NDArray[np.float64]) -> None:
        """The next row.

        Args:
            scores: log p of the row, `[candidates]`; of who is not asked it does not matter. The
                plain base, the first, is always asked.
        """
        active = self.active
        self.rows += 1
        if active.sum() > 1:
            so_far = np.where(active, self.sums, -np.inf)
            second, leader = np.argsort(so_far, kind="stable")[-2:]
            against = np.full(len(scores), leader)
            against[leader] = second
            gains = np.clip((scores[against] - scores) / self._clip, -1, 1)[active]
            self._better[active] += np.log1p(np.array(BETS) * gains[:, None])
        self.sums[active] += np.clip(scores - scores[0], -self._clip, self._clip)[active]
        self._leave(self.beaten())

    def beaten(self) -> NDArray[np.float64]:
        """Log of what bets on others being better than each came to; NaN of the dropped."""
        return np.where(self.active, _mean(self._better, 1), np.nan)


def _mean(logs: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Log of the mean of what these are logs of."""
    found: NDArray[np.float64] = np.logaddexp.reduce(logs, axis=axis) - np.log(logs.shape[axis])
    return found


def ranked(observed: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Log of the e-value of rows against others that the base wrote to the same prompts, whatever
    their law is: under it a row is exchangeable with the others of its prompt.

    (M + 1) exp(c s_0) / sum_i exp(c s_i), of each prompt, multiplied; mixed over c. (Soft ranks:
    Ignatiadis, Wang and Ramdas 2024.)

    Args:
        observed: a statistic of the rows, `[rows]`; one row a prompt, and a statistic that was
            chosen on other rows.
        others: of the M others of each row's prompt, `[rows, M]`.
    """
    every = np.concatenate([observed[:, None], others], axis=1)
    spread = every.std() or 1.0
    logs = []
    for sharpness in (0.1, 0.3, 1.0):
        scaled = sharpness * every / spread
        won = np.log(every.shape[1]) + scaled[:, 0] - np.logaddexp.reduce(scaled, axis=1)
        logs.append(won.sum())
    return float(_mean(np.array(logs), 0))
