"""Rows under all candidates of a bank: system prompts behind one model, and adapters, each of which
makes a model of its own.

An adapter shares nothing with the others: its model is loaded when it is asked, and one is held at
a time, beside the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subl.audit.scan.bank import Candidate
from subl.audit.scan.law import Law
from subl.audit.scan.score import Rows, Scorer
from subl.errors import InputError
from subl.model.load import load_model, load_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Scorers:
    """Scores rows under candidates.

    Args:
        model: the base, behind which system prompts stand.
        temperatures: at which; `[temperatures]` in what is returned.
        batch_rows: rows that are read together, at most.
    """

    def __init__(
        self, model: Path, law: Law, temperatures: Sequence[float], batch_rows: int
    ) -> None:
        self._how = law, temperatures, batch_rows
        self._tokenizer = load_tokenizer(model)
        self.base = Scorer(load_model(model), self._tokenizer, *self._how)
        self._proven = False
        self._adapted: tuple[Path, Scorer] | None = None
        self._tokens_before = 0

    @property
    def tokens(self) -> int:
        """That were read."""
        now = 0 if self._adapted is None else self._adapted[1].tokens
        return self.base.tokens + self._tokens_before + now

    def prove(self, rows: Rows, candidates: Sequence[Candidate]) -> None:
        """Find out, once, whether the base may read rows together: behind the longest prompt.

        Raises:
            InputError: its forward pass fails.
        """
        if not self._proven:
            self.base.prove(rows, max(candidates, key=lambda each: len(each.prompt or "")))
            self._proven = True

    def scores(self, rows: Rows, candidate: Candidate) -> NDArray[np.float64]:
        """log p of each row, `[rows, temperatures]`.

        Raises:
            InputError: the candidate's adapter cannot be read, or has another tokenizer.
        """
        return self._of(rows, candidate).scores(rows, candidate)

    def by_token(self, rows: Rows, candidate: Candidate) -> list[NDArray[np.float64]]:
        """log p of the tokens of each row, `[targets, temperatures]` each.

        Raises:
            InputError: as `scores`.
        """
        return self._of(rows, candidate).by_token(rows, candidate)

    def _of(self, rows: Rows, candidate: Candidate) -> Scorer:
        if candidate.adapter is None:
            return self.base
        if self._adapted is not None and self._adapted[0] == candidate.adapter:
            return self._adapted[1]
        if self._adapted is not None:
            self._tokens_before += self._adapted[1].tokens
            self._adapted = None  # before the next is loaded: there is room for one
        tokenizer = load_tokenizer(candidate.adapter)
        if tokenizer.get_vocab() != self._tokenizer.get_vocab():
            raise InputError(
                f"candidate {candidate.name}: {candidate.adapter} has another tokenizer than the "
                "base",
                hint="give adapters of the model that the scan is given",
            )
        found = Scorer(load_model(candidate.adapter), tokenizer, *self._how)
        found.prove(rows, candidate)
        self._adapted = candidate.adapter, found
        return found
