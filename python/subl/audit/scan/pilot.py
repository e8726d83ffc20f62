"""A pilot: a small model of the same family that says which candidates the base is asked about.

What the pilot says is no evidence. It reads rows of its own, which nobody bets on afterwards: given
its choice, the bets are what they are with a smaller bank, and whoever is in that leaves a set in
error as seldom as ever. Who was left out is never excluded. Choosing by the rows that are bet on
would be another matter: those who happened to fit them would stand against one who did not.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subl.artifact import write_atomically
from subl.audit.scan.bank import Candidate
from subl.audit.scan.drawn import Drawn
from subl.audit.scan.law import Law

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Choice:
    """What a pilot came to.

    Args:
        rows: that it read; the scan looks at those behind them.
        kept: who is asked about; `[candidates]`.
        gains: nats a row over the pilot's own plain base, `[candidates]`; NaN of adapters, which it
            cannot be asked about.
        tokens: that it read.
    """

    rows: int
    kept: NDArray[np.bool_]
    gains: NDArray[np.float64]
    tokens: int

    def to_json(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """For `result.json`."""
        return {
            "rows": self.rows,
            "kept": int(self.kept.sum()),
            "tokens": self.tokens,
            "gains": {
                each.name: None if np.isnan(gain) else round(float(gain), 4)
                for each, gain in zip(candidates, self.gains, strict=True)
            },
        }


def choose(
    model: Path,
    law: Law,
    drawn: Drawn,
    candidates: Sequence[Candidate],
    keep: int,
    batch_rows: int,
    file: Path,
) -> Choice:
    """Who predicts rows best under the pilot; and those that stand for nothing, and adapters.

    Args:
        drawn: rows for the pilot alone.
        file: that keeps what it said, for a scan that is killed.

    Raises:
        InputError: a row cannot be scored; names it.
    """
    if file.exists():
        with np.load(file, allow_pickle=False) as held:
            gains, tokens = held["gains"], int(held["tokens"])
    else:
        from subl.audit.scan.scorers import Scorers

        heat = 1.0 if law.temperature is None else law.temperature
        scorers = Scorers(model, law, [heat], batch_rows)
        rows = scorers.base.prepared(drawn.rows, drawn.ended_by)
        scorers.prove(rows, candidates)
        scores = [
            np.full(len(drawn.rows), np.nan)
            if each.adapter is not None
            else scorers.scores(rows, each)[:, 0]
            for each in candidates
        ]
        gains, tokens = np.stack(scores).mean(1) - scores[0].mean(), scorers.tokens
        kept_bytes = io.BytesIO()
        np.savez(kept_bytes, gains=gains, tokens=tokens)
        write_atomically(file, kept_bytes.getvalue())
    return Choice(len(drawn.rows), chosen(candidates, gains, keep), gains, tokens)


def chosen(
    candidates: Sequence[Candidate], gains: NDArray[np.float64], keep: int
) -> NDArray[np.bool_]:
    """The `keep` who gain most with their traits' other wordings, who stands for nothing, and of
    whom nothing is known."""
    found = np.array([each.trait is None for each in candidates]) | np.isnan(gains)
    ahead = np.argsort(np.where(found, np.inf, -gains), kind="stable")
    found[ahead[: min(keep, int((~found).sum()))]] = True
    traits = {each.trait for each, is_in in zip(candidates, found, strict=True) if is_in}
    wordings: NDArray[np.bool_] = found | np.array([each.trait in traits for each in candidates])
    return wordings
