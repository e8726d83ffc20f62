"""Rows under all candidates of a bank: system prompts behind one model, and adapters, each of which
makes a model of its own.

An adapter shares nothing with the others: its model is loaded when it is asked, and one is held at
a time, beside the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subl.audit.scan.bank import Candidate
from subl.audit.scan.frequencies import Moved
from subl.audit.scan.law import Law
from subl.audit.scan.score import Rows, Scorer
from subl.errors import InputError
from subl.model.load import load_model, load_tokenizer

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase


class Scorers:
    """Scores rows under candidates.

    Args:
        model: the base, behind which system prompts stand.
        temperatures, batch_rows, strengths: as `Scorer` takes them.
    """

    def __init__(
        self,
        model: Path,
        law: Law,
        temperatures: Sequence[float],
        batch_rows: int,
        strengths: Sequence[float] = (),
    ) -> None:
        self._how, self._strengths = (law, temperatures, batch_rows), strengths
        self._tokenizer = load_tokenizer(model)
        self.base = self._scorer(model, self._tokenizer)
        self._proven = False
        self._adapted: tuple[Path, Scorer] | None = None
        self._tokens_before = 0

    @property
    def tokens(self) -> int:
        """That were read."""
        now = 0 if self._adapted is None else self._adapted[1].tokens
        return self.base.tokens + self._tokens_before + now

    def prove(self, rows: Rows, candidates: Sequence[Candidate]) -> None:
        """Find out, once, whether the base may read rows together: behind the longest prompt."""
        if not self._proven:
            self.base.prove(rows, max(candidates, key=lambda each: len(each.prompt or "")))
            self._proven = True

    def scores(self, rows: Rows, candidate: Candidate) -> NDArray[np.float64]:
        """log p of each row, `[rows, temperatures]`.

        Raises:
            InputError: the candidate's adapter cannot be read, or has another tokenizer.
        """
        return self._of(rows, candidate).scores(rows, candidate)

    def scores_of(
        self,
        rows: Rows,
        plain: Candidate,
        candidates: Sequence[Candidate],
        told: Callable[[float], None],
        moved: Sequence[Sequence[Moved]] | None = None,
    ) -> NDArray[np.float64]:
        """log p of each row, `[rows, candidates, columns]`.

        Args:
            plain: the base.
            told: which share is done.
            moved: by which the odds of each candidate are, at each temperature; None: there are
                neither strengths nor moved odds.

        Raises:
            InputError: as `scores`.
        """
        parts = [rows] if moved is None else list(self.base.parts(rows))

        @lru_cache(maxsize=1)
        def logits_of(number: int) -> list[torch.Tensor] | None:
            return None if moved is None else self.base.logits(parts[number], plain)

        said: list[list[NDArray[np.float64]]] = [[] for _ in candidates]  # of each, by parts
        # Who shares a model is asked about all parts before the next one is loaded.
        for model in dict.fromkeys(each.adapter for each in candidates):
            for number, part in enumerate(parts):
                logits = logits_of(number)
                for place, each in enumerate(candidates):
                    if each.adapter != model:
                        continue
                    odds = None if moved is None else moved[place]
                    if logits is not None and odds is not None and each == plain:
                        found = self.base.of_logits(part, logits, odds)
                    else:
                        found = self._of(part, each).scores(part, each, logits, odds)
                    said[place].append(found)
                    told(sum(map(len, said)) / (len(candidates) * len(parts)))
        return np.stack([np.concatenate(own) for own in said], axis=1)

    def by_token(self, rows: Rows, candidate: Candidate) -> list[NDArray[np.float64]]:
        """log p of the tokens of each row, `[targets, temperatures]` each.

        Raises:
            InputError: as `scores`.
        """
        return self._of(rows, candidate).by_token(rows, candidate)

    def _scorer(self, model: Path, tokenizer: PreTrainedTokenizerBase) -> Scorer:
        return Scorer(load_model(model), tokenizer, *self._how, strengths=self._strengths)

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
        found = self._scorer(candidate.adapter, tokenizer)
        found.prove(rows, candidate)
        self._adapted = candidate.adapter, found
        return found
