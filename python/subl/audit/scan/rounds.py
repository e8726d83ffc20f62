"""The rounds of a scan: who is asked about which rows, and until when. Pure: `ask` scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from subl.audit.scan.bank import Candidate
from subl.audit.scan.evidence import Column, Nearest, Race
from subl.audit.scan.verdict import decided, for_nothing, groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ask = Callable[[str, int, NDArray[np.bool_]], NDArray[np.float64]]
    """Phase, rows before, and who is asked; gives log p of the next rows, `[rows, candidates,
    columns]`, the rows' own temperature first."""

    Told = Callable[[str, Race | Nearest], None]
    """Phase, and how it stands after a round."""

LAW, NEAREST = "law", "nearest"
"""Phases."""

FIRST, _MOST = 8, 64
"""Rows of a round: as many as there were before."""

STARTS = (8, 32, 128, 512)
"""Rows by which it is chosen whose gains are ranked among the references'; ends of rounds."""

_BESIDE = 4
"""Of those who have left, how many are asked on, the best: somebody has to bet against the last
who is left. Of 30 simulated sets of a law between two candidates' one alone was left in 29 where
nobody was asked on and the scan stopped at once, in 21 where it went on for as many rows again, and
in 11 with both, before strengths were bet with (tests/audit/test_evidence.py)."""


def round_at(start: int, rows: int) -> slice:
    """The rows of the round behind the first `start`, of so many."""
    return slice(start, min(start + min(_MOST, max(FIRST, start)), rows))


def _untold(phase: str, bets: Race | Nearest) -> None:
    pass


def raced(
    candidates: Sequence[Candidate],
    columns: Sequence[Column],
    alpha: float,
    rows: int,
    ask: Ask,
    told: Told = _untold,
    *,
    exhaustive: bool = False,
) -> tuple[Race, dict[int, int | None]]:
    """Who may have written the rows. Who has left is asked no more, but the best few, and what
    stands for nothing.

    Args:
        columns: as `Race` takes them.
        rows: there are.
        exhaustive: ask everybody about all rows.

    Returns:
        The race; and for each of `STARTS` which trait's candidate was ahead then.
    """
    bets, empty = Race(len(candidates), columns, alpha), for_nothing(candidates)
    ahead: dict[int, int | None] = dict.fromkeys(STARTS)
    while bets.rows < rows and (exhaustive or not decided(candidates, bets)):
        if bets.rows in STARTS:
            sums = np.where(bets.active & ~empty, bets.sums, -np.inf)
            ahead[bets.rows] = int(sums.argmax()) if np.isfinite(sums).any() else None
        for row in ask(LAW, bets.rows, bets.active):
            bets.add(np.where(bets.active[:, None], row, np.nan))
        told(LAW, bets)
        if not exhaustive:
            out = bets.active & ~bets.kept & ~empty
            behind = np.argsort(np.where(out, bets.sums, -np.inf), kind="stable")
            out[behind[len(behind) - _BESIDE :]] = False
            bets.drop(out)
    return bets, ahead


def compared(
    candidates: Sequence[Candidate],
    alpha: float,
    clip: float,
    rows: int,
    ask: Ask,
    told: Told = _untold,
    *,
    known: int = 0,
) -> Nearest:
    """Who predicts the rows best, where nobody of the bank has written them.

    Args:
        clip: as `Nearest` takes it.
        rows: there are.
        known: rows of which somebody was asked already: of those all who are left are asked.
    """
    bets, empty = Nearest(len(candidates), alpha, clip), for_nothing(candidates)
    while bets.rows < rows and len(groups(candidates, bets.kept)) > 1:
        for row in ask(NEAREST, bets.rows, bets.active):
            bets.add(row[:, 0])
        told(NEAREST, bets)
        bets.drop(~bets.kept & ~empty)
    start = bets.rows
    while start < known:
        start += len(ask(NEAREST, start, bets.kept))
    return bets
