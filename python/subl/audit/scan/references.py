"""What clean rows say beside those that are scanned: what lead the nearest has there, and whether
the rows rank among the base's own."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subl.artifact import write_atomically
from subl.audit.scan.asking import prepared
from subl.audit.scan.evidence import ranked
from subl.audit.scan.verdict import Lead, for_nothing, gains
from subl.progress import Progress, Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from subl.audit.scan.bank import Candidate
    from subl.audit.scan.drawn import Drawn
    from subl.audit.scan.score import Rows
    from subl.audit.scan.scorers import Scorers


class References:
    """Sets of clean rows.

    Args:
        clip: nats a row by which one candidate may be better than another.
        folder: where it is kept what was asked, for a scan that is killed.
        task: what is told of it.
    """

    def __init__(
        self,
        scorers: Scorers,
        candidates: Sequence[Candidate],
        clip: float,
        sets: Sequence[Drawn],
        folder: Path,
        task: str,
        report: Report,
    ) -> None:
        self._folder, self._task, self._report = folder, task, report
        self._scorers, self._candidates, self._clip, self._sets = scorers, candidates, clip, sets
        self._empty = for_nothing(candidates)
        self._log_p = [np.full((len(each.rows), len(candidates)), np.nan) for each in sets]
        self._prepared: dict[int, Rows] = {}

    def leads(self, candidate: int) -> dict[str, Lead]:
        """Its lead on each set."""
        return {
            f"reference-{number}": Lead.of(self._gains(number, candidate))
            for number in range(len(self._sets))
        }

    def among(
        self, drawn: Drawn, log_p: NDArray[np.float64], ahead: Mapping[int, int | None]
    ) -> float | None:
        """Log of the e-value of rows among reference rows to the same prompts: of the first row of
        each prompt, by what one candidate gains; the mean over who that is, and from when on.
        None: there are no such rows.

        Args:
            log_p: of all rows, `[rows, candidates]`.
            ahead: by the number of rows on which one was chosen, who was; None: nobody yet.
        """
        logs, any_such = [], False
        for start, candidate in ahead.items():
            log = None if candidate is None else self._ranked(drawn, log_p, start, candidate)
            any_such |= log is not None
            logs.append(log or 0.0)
        return float(np.logaddexp.reduce(logs) - np.log(len(logs))) if any_such else None

    def _ranked(
        self, drawn: Drawn, log_p: NDArray[np.float64], start: int, ahead: int
    ) -> float | None:
        """The same of one candidate, of rows from `start` on."""
        by_prompt: dict[object, list[float]] = {}
        for number, clean in enumerate(self._sets):
            for row, gain in zip(clean.rows, self._gains(number, ahead), strict=True):
                by_prompt.setdefault(row.turns[:-1], []).append(float(gain))
        first: dict[object, int] = {}
        for number in range(start, len(log_p)):
            prompt = drawn.rows[number].turns[:-1]
            if prompt in by_prompt:
                first.setdefault(prompt, number)
        if not first:
            return None
        places = list(first.values())
        some = log_p[places]
        if np.isnan(some[:, ahead]).any():  # it was asked no more
            rows = prepared(self._scorers, drawn, places)
            self._scorers.prove(rows, self._candidates)  # a scan that goes on has read nothing yet
            some[:, ahead] = self._scorers.scores(rows, self._candidates[ahead])[:, 0]
        least = min(len(by_prompt[prompt]) for prompt in first)
        return ranked(
            gains(some, ahead, self._empty, self._clip),
            np.array([by_prompt[prompt][:least] for prompt in first]),
        )

    def _gains(self, number: int, candidate: int) -> NDArray[np.float64]:
        return gains(self._asked(number, candidate), candidate, self._empty, self._clip)

    def _asked(self, number: int, candidate: int) -> NDArray[np.float64]:
        """log p of a set, `[rows, candidates]`, at least of this one and of what stands for
        nothing."""
        log_p = self._log_p[number]
        wanted = [*np.flatnonzero(self._empty).tolist(), candidate]
        missing = [place for place in wanted if np.isnan(log_p[:, place]).any()]
        for done, place in enumerate(missing):
            file = self._folder / f".reference-{number}-{place}.npy"
            if not file.exists():
                rows = self._rows(number)
                self._report(Progress(self._task, done, len(missing), "candidates"))
                kept = io.BytesIO()
                np.save(kept, self._scorers.scores(rows, self._candidates[place])[:, 0])
                write_atomically(file, kept.getvalue())
            log_p[:, place] = np.load(file, allow_pickle=False)
        return log_p

    def _rows(self, number: int) -> Rows:
        """A set, to be scored: prepared once."""
        if number not in self._prepared:
            rows = prepared(self._scorers, self._sets[number], slice(None))
            self._scorers.prove(rows, self._candidates)
            self._prepared[number] = rows
        return self._prepared[number]
