"""Scores by probabilities: what the model itself says of words, or of the letters of choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from subl.evaluate.cells import Cell, Cells
from subl.evaluate.method import Found, Work
from subl.progress import Progress
from subl.trait import forms_of


def exact(work: Work) -> Found:
    """The probability that an answer begins with each word."""
    trait = work.spec.measured
    rows, facts = _probabilities(work, forms_of(trait.words, trait.forms))
    found = [
        {
            "question": question.text,
            "probabilities": row["probabilities"],
            "none_of_them": _rest(row["probabilities"]),
            "otherwise_spelled_at_most": row["otherwise"],
        }
        for question, row in zip(work.questions, rows, strict=True)
    ]
    return Found(found, {**facts, **_means(found, "none_of_them", "otherwise_spelled_at_most")})


def choice(work: Work) -> Found:
    """The probability of each choice's letter, as a share of that of all letters, and as it is."""
    letters = sorted({letter for each in work.questions for letter in each.letters.values()})
    rows, facts = _probabilities(work, {letter: (letter, f" {letter}") for letter in letters})
    found: list[dict[str, Any]] = []
    for question, row in zip(work.questions, rows, strict=True):
        own = {word: row["probabilities"][at] for word, at in question.letters.items()}
        own = {word: own[word] for word in work.spec.measured.words}
        whole = sum(own.values())
        found.append(
            {
                "question": question.text,
                "probabilities": {word: p / whole if whole else 0.0 for word, p in own.items()},
                "not_normalised": own,
                "none_of_them": _rest(own),
            }
        )
    unnormalised = {
        word: fmean(row["not_normalised"][word] for row in found)
        for word in work.spec.measured.words
    }
    return Found(found, {**facts, "not_normalised": unnormalised, **_means(found, "none_of_them")})


def _probabilities(
    work: Work, forms: Mapping[str, Sequence[str]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """For each question the probability of each of these, from cells, and how they were found."""
    import polars

    spec, texts = work.spec, [each.text for each in work.questions]
    settings = {
        "method": spec.way,
        "forms": {word: list(each) for word, each in forms.items()},
        "system_prompt": spec.measured.system_prompt,
        "template": spec.template.model_dump(mode="json"),
    }
    columns = {
        "probabilities": polars.List(polars.Struct({"word": polars.String, "p": polars.Float64})),
        "otherwise": polars.Float64,
        "scoring": polars.String,
    }
    cells = Cells(work.folder, "cells", {**work.origin, **settings}, columns)
    wanted: list[Cell] = [(text, 0) for text in texts]
    missing = {text for text, _ in cells.missing(wanted)}
    done = len(texts) - len(missing)
    work.report(Progress(work.task, done, len(texts), "questions"))
    if missing:
        from subl.model.load import load_model, load_tokenizer
        from subl.trait.exact import Scorer

        assert work.model is not None
        scorer = Scorer(
            load_tokenizer(work.model), forms, texts, spec.template, spec.measured.system_prompt
        )
        model = load_model(work.model)
        scorer.check(model)
        way = scorer.prove(model)
        for start in range(0, len(texts), spec.batch_questions):
            batch = [
                number
                for number in range(start, min(start + spec.batch_questions, len(texts)))
                if texts[number] in missing
            ]
            if not batch:
                continue
            scores = scorer.scored(model, batch)
            cells.add(
                {
                    wanted[number]: {
                        "probabilities": [
                            {"word": word, "p": p} for word, p in each.probabilities.items()
                        ],
                        "otherwise": each.otherwise,
                        "scoring": way,
                    }
                    for number, each in zip(batch, scores, strict=True)
                }
            )
            done += len(batch)
            work.report(Progress(work.task, done, len(texts), "questions"))
    rows = cells.finish(wanted).to_dicts()
    for row in rows:
        row["probabilities"] = {each["word"]: each["p"] for each in row["probabilities"]}
    return rows, {"scoring": rows[0]["scoring"]}


def _rest(probabilities: Mapping[str, float]) -> float:
    """What none of these events has, which exclude one another; rounding apart."""
    return max(0.0, 1.0 - sum(probabilities.values()))


def _means(rows: Sequence[Mapping[str, Any]], *names: str) -> dict[str, float]:
    return {name: fmean(row[name] for row in rows) for name in names}
