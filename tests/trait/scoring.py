"""Exact scores of all questions at once, as tests want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from subl.trait import forms_of
from subl.trait.exact import Scorer
from subl.trait.passes import Way

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def answer_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    words: Sequence[str],
    batch_questions: int = 5,
) -> list[dict[str, float]]:
    """P(answer begins with word) for each question: a list of {word: probability}."""
    scorer = Scorer(tokenizer, forms_of(words), questions)
    return score_all(scorer, model, len(questions), batch_questions)[1]


def score_all(
    scorer: Scorer, model: PreTrainedModel, questions: int, batch_questions: int
) -> tuple[Way, list[dict[str, float]]]:
    """How the model is scored, and P(answer begins with word) for each question, so many of which
    are scored at once."""
    scorer.check(model)
    way = scorer.prove(model)
    found: list[dict[str, float]] = []
    for start in range(0, questions, batch_questions):
        found += scorer.score(model, range(start, min(start + batch_questions, questions)))
    return way, found
