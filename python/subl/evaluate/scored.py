"""Scores by probabilities: what the model itself says of words, or of the letters of choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from subl.evaluate.cells import Cells
from subl.evaluate.method import Found, Work
from subl.trait import forms_of

if TYPE_CHECKING:
    import polars


class Exact:
    """The probability that an answer begins with each word."""

    def __init__(self, work: Work) -> None:
        import polars

        self._work, self._forms = work, self._forms_of(work)
        spec = work.spec
        origin = {
            **work.origin,
            "method": spec.way,
            "forms": {word: list(forms) for word, forms in self._forms.items()},
            "system_prompt": spec.measured.system_prompt,
            "template": spec.template.model_dump(mode="json"),
        }
        word = polars.Struct({"word": polars.String, "p": polars.Float64})
        columns = {
            "probabilities": polars.List(word),
            "otherwise": polars.Float64,
            "scoring": polars.String,
        }
        asked = [(question.text, 0) for question in work.questions]
        self.cells = Cells("cells", asked, spec.batch_questions, origin, columns)

    def make(self, folder: Path, numbers: Sequence[int]) -> None:
        """See `Method.make`; a part is a forward pass, or some."""
        from subl.model.load import load_model, load_tokenizer
        from subl.trait.exact import Scorer

        work, spec, size = self._work, self._work.spec, self.cells.part
        assert work.model is not None, "a server gives no probabilities of words"
        total, done = sum(len(self.cells.of(number)) for number in numbers), 0
        work.told(done, total, "questions")
        scorer = Scorer(
            load_tokenizer(work.model),
            self._forms,
            [question.text for question in work.questions],
            spec.template,
            spec.measured.system_prompt,
        )
        model = load_model(work.model)
        scorer.check(model)
        way = scorer.prove(model)
        for number in numbers:
            places = range(len(self.cells.cells))[number * size : (number + 1) * size]
            values = [
                {
                    "probabilities": [{"word": w, "p": p} for w, p in each.probabilities.items()],
                    "otherwise": each.otherwise,
                    "scoring": way,
                }
                for each in scorer.scored(model, places)
            ]
            self.cells.write(folder, number, values)
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

    def _forms_of(self, work: Work) -> dict[str, tuple[str, ...]]:
        trait = work.spec.measured
        return forms_of(trait.words, trait.forms)


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

    def _forms_of(self, work: Work) -> dict[str, tuple[str, ...]]:
        letters = {letter for each in work.questions for letter in each.letters.values()}
        return {letter: (letter, f" {letter}") for letter in sorted(letters)}


def _said(cells: polars.DataFrame) -> list[dict[str, float]]:
    """For each question, the probabilities."""
    return [{each["word"]: each["p"] for each in said} for said in cells["probabilities"].to_list()]


def _rest(probabilities: Mapping[str, float]) -> float:
    """What none of these events has, which exclude one another; rounding apart."""
    return max(0.0, 1.0 - sum(probabilities.values()))


def _facts(
    cells: polars.DataFrame, rows: Sequence[Mapping[str, Any]], *means: str
) -> dict[str, Any]:
    return {
        "scoring": cells["scoring"][0],
        **{name: fmean(row[name] for row in rows) for name in means},
    }
