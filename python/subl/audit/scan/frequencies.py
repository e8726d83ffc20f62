"""How often tokens came in the rows so far, beside how often each candidate expected them.

A candidate that wrote the rows expects each token as often as it comes, on the whole. What it gets
wrong is bet against it in the rows after these: its own law with the odds of each token moved by
b = log((came + A) / (expected + A)), token by token p_k(v) exp(b_v) / Z. That needs nobody in the
bank who predicts the rows better, so that it tells laws that the bank does not have, as rows of
another wording are, from those that pass for them.

Only tokens that came in earlier rounds are watched, each from then on: others keep their odds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SURE = 200.0
"""Times that a token has to be expected until half of what it came more or less often is believed
(A). Rows of SmolLM2 behind another wording move the odds of a digit by 0.05 or so."""


@dataclass(frozen=True)
class Moved:
    """A candidate's law with the odds of some tokens moved.

    Args:
        tokens: ids, ascending.
        odds: by how much the log odds of each are moved, `[tokens]`.
        expected: how often the law itself, unmoved, expects each in what was scored; `log_p` adds
            to it.
    """

    tokens: NDArray[np.int64]
    odds: NDArray[np.float64]
    expected: NDArray[np.float64]

    def log_p(
        self, law: torch.Tensor, ids: NDArray[np.int64] | None, said: Sequence[int]
    ) -> torch.Tensor:
        """By how much the log p of each token said is moved, `[targets]`.

        Args:
            law: log p, `[targets, ids]`.
            ids: that the law is about, ascending; None: those from 0 on.
            said: the token of each target; one that is not watched keeps its odds.
        """
        import torch

        if not len(self.tokens):
            return law.new_zeros(len(said))
        places, among = found_in(self.tokens, np.arange(law.shape[1]) if ids is None else ids)
        p = law[:, torch.from_numpy(places)].exp()
        self.expected[among] += p.sum(0).cpu().numpy()
        moved = torch.from_numpy(self.odds[among]).to(p)
        where, watched = found_in(np.asarray(said), self.tokens)
        own = np.zeros(len(said))
        own[watched] = self.odds[where]
        found: torch.Tensor = torch.from_numpy(own).to(p) - torch.log1p(p @ torch.expm1(moved))
        return found


class Frequencies:
    """Of the tokens of rows, round by round.

    Args:
        count: of candidates.
        heats: how many temperatures may be the rows' own: what is expected is of each.
    """

    def __init__(self, count: int, heats: int) -> None:
        self._tokens: NDArray[np.int64] = np.empty(0, np.int64)
        self._came: NDArray[np.float64] = np.empty(0)
        self._expected: NDArray[np.float64] = np.empty((count, heats, 0))

    def moved(self, candidates: Iterable[int]) -> list[list[Moved]]:
        """The laws of these candidates, at each temperature, moved by what was seen so far."""
        came = np.log(self._came + SURE)
        return [
            [
                Moved(self._tokens, came - np.log(expected + SURE), np.zeros(len(self._tokens)))
                for expected in self._expected[each]
            ]
            for each in candidates
        ]

    def add(
        self,
        candidates: NDArray[np.intp],
        expected: NDArray[np.float64],
        tokens: NDArray[np.int64],
        came: NDArray[np.int64],
    ) -> None:
        """A round.

        Args:
            candidates: who was asked about it; who was not is asked no more.
            expected: what came to be in `Moved.expected`, `[candidates, heats, tokens watched]`.
            tokens: that came, ascending, and how often each did.
        """
        places, among = found_in(tokens, self._tokens)
        self._came[places] += came[among]
        self._expected[candidates] += expected
        every = np.union1d(self._tokens, tokens)
        into = np.searchsorted(every, self._tokens)
        came_before, expected_before = self._came, self._expected
        self._tokens = every
        self._came = np.zeros(len(every))
        self._came[into] = came_before
        self._expected = np.zeros((*expected_before.shape[:2], len(every)))
        self._expected[:, :, into] = expected_before


def found_in(
    some: NDArray[np.int64], every: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where those of `some` that are in `every`, which ascends, stand in it; and which they are."""
    places = np.searchsorted(every, some)
    among = np.zeros(len(some), np.bool_)
    within = places < len(every)
    among[within] = every[places[within]] == some[within]
    return places[among], among
