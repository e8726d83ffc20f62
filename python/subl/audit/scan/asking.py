"""log p of a scan's rows, asked for in rounds.

A round that was asked is on the disk before the next begins, so that a scan that was killed goes on
there; what is known already is asked no more.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subl.artifact import write_atomically
from subl.audit.scan.bank import Candidate
from subl.audit.scan.drawn import Drawn
from subl.audit.scan.evidence import Column
from subl.audit.scan.frequencies import Frequencies
from subl.audit.scan.rounds import LAW, round_at
from subl.errors import InputError
from subl.progress import Progress, Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from subl.audit.scan.score import Rows
    from subl.audit.scan.scorers import Scorers


_SEEN = "expected", "came", "times"
"""Of the frequencies of tokens, what a round is kept with."""


class Asking:
    """What candidates say of rows.

    Args:
        columns: of log p; the first temperature is the rows' own, or the first of a grid.
        task: what is told of it.
    """

    def __init__(
        self,
        scorers: Scorers,
        drawn: Drawn,
        candidates: Sequence[Candidate],
        columns: Sequence[Column],
        folder: Path,
        task: str,
        report: Report,
    ) -> None:
        self._scorers, self._drawn, self._candidates = scorers, drawn, candidates
        self._moved = columns.count("moved")
        self._frequencies = Frequencies(len(candidates), self._moved)
        self._columns, self._folder, self._task, self._report = len(columns), folder, task, report
        self.log_p = np.full((len(drawn.rows), len(candidates)), np.nan)
        """Of each row under each candidate, at the first temperature; NaN: not asked."""
        self.tokens = np.zeros(len(drawn.rows), np.int64)
        """Of each row, that are scored; 0: nobody was asked."""
        self.rows = 0
        """That anybody was asked about."""
        self.read = 0
        """Tokens."""
        self.whole = 0
        """Tokens, had all candidates been asked about these rows."""

    def round(self, phase: str, start: int, who: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Ask about the next rows.

        Args:
            phase: whose rounds belong together; that of a `Race` takes strengths and moved odds,
                too, which it bets with.
            start: rows before them.
            who: is asked.

        Returns:
            log p, `[rows, candidates, columns]`; NaN of who has never been asked and, but at
            the first temperature, of who was asked before; and of columns that nobody bets with.

        Raises:
            InputError: a row cannot be scored, or log p is no number.
        """
        some = round_at(start, len(self._drawn.rows))
        count = some.stop - start
        found = np.full((count, len(self._candidates), self._columns), np.nan)
        asked = np.flatnonzero(who & np.isnan(self.log_p[some]).any(0))
        if len(asked):
            file = self._folder / f".{phase}-{start:06}.npz"
            log_p, read, self.tokens[some] = self._asked(file, some, asked, bets=phase == LAW)
            found[:, asked, : log_p.shape[2]] = log_p
            self.read += read
            if some.stop > self.rows:
                self.whole += read * len(self._candidates) // len(asked)
                self.rows = some.stop
            if not np.isfinite(log_p).all():
                raise InputError(
                    "the model's log-probabilities are no numbers: it cannot be scored with",
                    hint="its weights may be damaged; does another program get text out of it?",
                )
            self.log_p[some, asked] = found[:, asked, 0]
        found[:, :, 0] = self.log_p[some]
        return found

    def _asked(
        self, file: Path, some: slice, asked: NDArray[np.intp], *, bets: bool
    ) -> tuple[NDArray[np.float64], int, NDArray[np.int64]]:
        """log p, `[rows, asked, columns]`, how many tokens that took, and how many of each row are
        scored."""
        if file.exists():
            with np.load(file, allow_pickle=False) as held:
                if np.array_equal(held["asked"], asked):
                    if bets and self._moved:
                        self._frequencies.add(asked, *(held[name] for name in _SEEN))
                    return held["log_p"], int(held["read"]), held["tokens"]
        rows = prepared(self._scorers, self._drawn, some)
        self._scorers.prove(rows, self._candidates)
        before, count = self._scorers.tokens, some.stop - some.start

        def told(share: float) -> None:
            done = some.start + int(count * share)
            self._report(Progress(self._task, done, len(self._drawn.rows), "rows"))

        who = [self._candidates[place] for place in asked]
        moved = self._frequencies.moved(asked) if bets else None
        log_p = self._scorers.scores_of(rows, self._candidates[0], who, told, moved)
        read = self._scorers.tokens - before
        tokens = np.array([len(targets) for targets in rows.targets])
        kept, seen = io.BytesIO(), dict[str, Any]()
        if moved is not None and self._moved:
            expected = np.stack([[each.expected for each in own] for own in moved])
            seen = dict(zip(_SEEN, (expected, *self._scorers.base.came(rows)), strict=True))
            self._frequencies.add(asked, *seen.values())
        np.savez(kept, log_p=log_p, asked=asked, read=read, tokens=tokens, **seen)
        write_atomically(file, kept.getvalue())
        return log_p, read, tokens


def prepared(scorers: Scorers, drawn: Drawn, some: slice | Sequence[int]) -> Rows:
    """Some of these rows, to be scored.

    Raises:
        InputError: one cannot be; names it.
    """
    if isinstance(some, slice):
        some = range(len(drawn.rows))[some]
    return scorers.base.prepared(
        [drawn.rows[row] for row in some], [drawn.ended_by[row] for row in some]
    )
