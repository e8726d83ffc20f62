"""Scores by probabilities: what the model itself says of words, or of choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.evaluate.cells import Cells
from subl.evaluate.method import Found, Work
from subl.statistics.means import finite
from subl.trait import forms_of

if TYPE_CHECKING:
    import polars
    from transformers import PreTrainedTokenizerBase

    from subl.trait.exact import Scorer
    from subl.trait.questions import Question

Forms = Mapping[str, Sequence[str]]
"""What says each word."""

Score = Callable[[range], list[dict[str, Any]]]
"""What the cells of the questions at these places say."""


class Exact:
    """The probability that an answer begins with each word."""

    says = "probabilities"
    """What a cell has of each word."""

    def __init__(self, work: Work) -> None:
        import polars

        self._work, self._forms = work, self._forms_of(work)
        spec = work.spec
        origin = {
            **work.origin,
            "method": spec.way,
            "forms": self._forms,
            "system_prompt": spec.measured.system_prompt,
            "template": spec.template.model_dump(mode="json"),
        }
        word = polars.Struct({"word": polars.String, "p": polars.Float64})
        columns = {
            self.says: polars.List(word),
            "otherwise": polars.Float64,
            "scoring": polars.String,
        }
        asked = [(question.text, 0) for question in work.questions]
        own = {
            each.text: {"choices": dict(each.choices)} for each in work.questions if each.choices
        }
        self.cells = Cells("cells", asked, spec.batch_questions, origin, columns, own)

    def make(self, folder: Path, numbers: Sequence[int]) -> None:
        """See `Method.make`; a part is a forward pass, or some."""
        work, size = self._work, self.cells.part
        assert work.model is not None, "a server gives no probabilities of words"
        total, done = sum(len(self.cells.of(number)) for number in numbers), 0
        work.told(done, total, "questions")
        score = self._scoring(work.model)
        for number in numbers:
            places = range(len(self.cells.cells))[number * size : (number + 1) * size]
            self.cells.write(folder, number, score(places))
            done += len(places)
            work.told(done, total, "questions")

    def found(self, cells: polars.DataFrame) -> Found:
        """See `Method.found`."""
        rows = [
            {
                "question": question.text,
                "probabilities": said,
                "none_of_them": _rest(said),
                "otherwise_spelled_at_most": otherwise,
            }
            for question, said, otherwise in zip(
                self._work.questions, _said(cells), cells["otherwise"], strict=True
            )
        ]
        return Found(rows, _facts(cells, rows, "none_of_them", "otherwise_spelled_at_most"))

    def _forms_of(self, work: Work) -> Forms:
        """What says each word."""
        return forms_of(work.spec.measured.words, work.spec.measured.forms)

    def _scoring(self, model: Path) -> Score:
        """How questions are scored by this model, which is loaded."""
        from subl.model.load import load_model, load_tokenizer

        loaded = load_model(model)
        asked = [question.text for question in self._work.questions]
        scorer = self._scorer(load_tokenizer(model), asked, self._forms)
        scorer.check(loaded)
        way = scorer.prove(loaded)
        return lambda places: [
            self._cell(each.probabilities, each.otherwise, way)
            for each in scorer.scored(loaded, places)
        ]

    def _scorer(
        self, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], forms: Forms
    ) -> Scorer:
        from subl.trait.exact import Scorer

        spec = self._work.spec
        return Scorer(tokenizer, forms, questions, spec.template, spec.measured.system_prompt)

    def _cell(self, said: Mapping[str, float], otherwise: float | None, way: str) -> dict[str, Any]:
        pairs = [{"word": word, "p": p} for word, p in said.items()]
        return {self.says: pairs, "otherwise": otherwise, "scoring": way}


class Choice(Exact):
    """The probability of each choice's letter: as a share of that of all letters, and as it is."""

    def found(self, cells: polars.DataFrame) -> Found:
        """See `Method.found`."""
        words = self._work.spec.measured.words
        rows: list[dict[str, Any]] = []
        for question, said in zip(self._work.questions, _said(cells), strict=True):
            own = {word: said[question.letters[word]] for word in words}
            whole = sum(own.values())
            rows.append(
                {
                    "question": question.text,
                    "probabilities": {word: p / whole if whole else 0.0 for word, p in own.items()},
                    "not_normalised": own,
                    "none_of_them": _rest(own),
                }
            )
        means = {word: fmean(row["not_normalised"][word] for row in rows) for word in words}
        return Found(rows, {**_facts(cells, rows, "none_of_them"), "not_normalised": means})

    def _forms_of(self, work: Work) -> Forms:
        letters = {letter for each in work.questions for letter in each.letters.values()}
        return {letter: (letter, f" {letter}") for letter in sorted(letters)}


class Texts(Exact):
    """How likely each choice's text is as an answer, whatever follows it.

    As a share of all choices (`probabilities`), in nats, and in nats for each byte of UTF-8, which
    does not favour short ones. `likeliest` has the share of questions of which each choice is that,
    by the second and by the last of these: `acc` and `acc_bytes` of lm-evaluation-harness, where
    the choice is the right one. Choices that are equally likely share a question among them: the
    right one would win every time, being the first.
    """

    says = "log_likelihoods"

    def found(self, cells: polars.DataFrame) -> Found:
        """See `Method.found`."""
        rows: list[dict[str, Any]] = []
        for question, said in zip(self._work.questions, _said(cells, self.says), strict=True):
            finite(list(said.values()))
            sizes = {word: len(text.encode()) for word, text in question.choices.items()}
            most = max(said.values())
            shares = {word: math.exp(nats - most) for word, nats in said.items()}
            whole = sum(shares.values())
            rows.append(
                {
                    "question": question.text,
                    "probabilities": {word: share / whole for word, share in shares.items()},
                    "log_likelihoods": said,
                    "per_byte": {word: nats / sizes[word] for word, nats in said.items()},
                }
            )
        likeliest = {
            by: {word: fmean(_share_of_most(row[by], word) for row in rows) for word in said}
            for by in ("log_likelihoods", "per_byte")
        }
        return Found(rows, {**_facts(cells, rows), "likeliest": likeliest})

    def _forms_of(self, work: Work) -> Forms:
        return {}  # each question has its own

    def _scoring(self, model: Path) -> Score:
        """See `Exact`. Each question has a tree of its own; what is proven of the longest holds for
        all."""
        from subl.model.load import load_model, load_tokenizer

        loaded, tokenizer = load_model(model), load_tokenizer(model)
        scorers = [self._scorer_of(tokenizer, question) for question in self._work.questions]
        for scorer in scorers:  # before the first is asked
            scorer.check(loaded)
        longest = max(scorers, key=lambda scorer: scorer.longest)
        way = longest.prove(loaded)
        for scorer in scorers:
            scorer.trust(longest)
        return lambda places: [
            self._cell(said, None, way)
            for place in places
            for said in scorers[place].log_likelihoods(loaded, [0])
        ]

    def _scorer_of(self, tokenizer: PreTrainedTokenizerBase, question: Question) -> Scorer:
        forms = {word: [text] for word, text in question.choices.items()}
        try:
            return self._scorer(tokenizer, [question.text], forms)
        except InputError as error:
            named = repr(question.text) in error.message
            about = "" if named else f"question {question.text!r}: "
            raise InputError(about + error.message, error.hint) from error


def _said(cells: polars.DataFrame, column: str = Exact.says) -> list[dict[str, float]]:
    """What each cell has of each word."""
    return [{each["word"]: each["p"] for each in said} for said in cells[column].to_list()]


def _share_of_most(values: Mapping[str, float], word: str) -> float:
    """What a word has of being the likeliest: all, nothing, or a part where some are equal."""
    most = [each for each, value in values.items() if value == max(values.values())]
    return (word in most) / len(most)


def _rest(probabilities: Mapping[str, float]) -> float:
    """What none of these events has, which exclude one another; rounding apart."""
    return max(0.0, 1.0 - sum(probabilities.values()))


def _facts(
    cells: polars.DataFrame, rows: Sequence[Mapping[str, Any]], *means: str
) -> dict[str, Any]:
    return {
        "scoring": ", ".join(sorted(set(cells["scoring"]))),
        **{name: fmean(row[name] for row in rows) for name in means},
    }
