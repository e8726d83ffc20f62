"""Measure a trait in a model: how it answers the trait's questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from subl.artifact import (
    WHOLE,
    Artifact,
    Parts,
    Slice,
    build_parts,
    input_digest,
    write_atomically,
)
from subl.errors import InputError
from subl.evaluate.judged import Judged
from subl.evaluate.method import Found, Method, Work
from subl.evaluate.sampled import Sampled
from subl.evaluate.scored import Choice, Exact, Texts
from subl.evaluate.spec import EvalSpec
from subl.extras import require
from subl.progress import Report, silent
from subl.sample.tables import Http
from subl.statistics import mean_probability, rate
from subl.trait.questions import questions_of


class Scores(dict[str, dict[str, float]]):
    """{question: {word: how likely an answer says it}}, by whatever method.

    `bases` has, of each question that is one way to ask another, that other. `unscored` are
    questions that were asked, too, but have no score: a judge could tell nothing of their answers.
    """

    def __init__(
        self,
        rows: Mapping[str, dict[str, float]],
        bases: Mapping[str, str] = MappingProxyType({}),
        unscored: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(rows)
        self.bases = bases
        self.unscored = unscored

    @property
    def asked(self) -> frozenset[str]:
        """All questions, scored or not."""
        return self.unscored.union(self)

    @property
    def clusters(self) -> list[str]:
        """Of each question that is scored, what it counts as to statistics."""
        return [self.bases.get(question, question) for question in self]

    def only(self, questions: Container[str]) -> Scores:
        """Those of some questions; the others count as not scored."""
        kept = {question: row for question, row in self.items() if question in questions}
        return Scores(kept, self.bases, self.asked.difference(kept))


def _choice(work: Work) -> Method:
    return Texts(work) if work.spec.measured.choices == "texts" else Choice(work)


_METHODS: Mapping[str, Callable[[Work], Method]] = MappingProxyType(
    {"exact": Exact, "choice": _choice, "sampled": Sampled, "judged": Judged}
)


def evaluate(
    spec: EvalSpec,
    model: Path | None,
    out: Path,
    *,
    questions: Path | None = None,
    judge: Path | None = None,
    name: str = "model",
    mine: Slice = WHOLE,
    report: Report = silent,
) -> Artifact:
    """Measure the trait in the model folder `model`, or in the model of `spec.backend`'s server.

    The artifact has `scores.jsonl`, a question a line, and the cells that it follows from.

    Args:
        questions: a file that has them, where the trait has none of its own.
        judge: the folder of the model that judges answers.
        mine: which of the parts this process makes.

    Raises:
        UnfinishedError: these are made, and others are not yet.
    """
    asked = questions_of(spec.measured, questions)
    given = {"model": model, "questions": questions, "judge": judge}
    inputs = {each: path for each, path in given.items() if path is not None}

    def parts(folder: Path) -> Parts:
        require("distill", "scipy")  # before the model is asked, not after
        if model is not None:
            origin = {"model": input_digest(model)}
        else:
            assert isinstance(spec.backend, Http), "the stage's check comes first"
            origin = {"model": spec.backend.model}
        work = Work(spec, asked, model, judge, origin, f"eval {name}", report)
        method = _METHODS[spec.way](work)

        def finish(folder: Path) -> dict[str, Any]:
            found = method.found(method.cells.merged(folder))
            return _result(spec, folder, found, {each.text: each.base for each in asked})

        return Parts(method.cells.names, method.make, finish)

    return build_parts(out, "eval", spec, inputs, parts, mine)


def _result(spec: EvalSpec, folder: Path, found: Found, bases: Mapping[str, str]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for row in found.rows:
        base = bases[row["question"]]
        rows.append(row if base == row["question"] else {**row, "cluster": base})
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    write_atomically(folder / "scores.jsonl", "".join(f"{line}\n" for line in lines))
    scores, counts = _scores(rows), _sample_counts(rows).values()
    samples = len(counts) * min(counts, default=0)
    return {
        "questions": len(rows),
        "method": spec.way,
        "words": {word: _mean(word, scores, samples) for word in spec.measured.words},
        **found.facts,
    }


def _mean(word: str, scores: Scores, samples: int) -> dict[str, Any]:
    """The mean over questions; of a word that no sample says, what it is below: these questions'
    mean, with 95 % confidence. `samples` are as many of each question as there are of any at least:
    of one with few answers little is known, and it counts as much as the others."""
    found = mean_probability([row[word] for row in scores.values()], scores.clusters)
    never = bool(samples) and not any(row[word] for row in scores.values())
    return asdict(found) | ({"at_most": rate(0, samples).at_most} if never else {})


def read_scores(path: Path) -> Scores:
    """The scores of an evaluation's artifact."""
    return _scores(read_rows(path))


def _scores(rows: Sequence[Mapping[str, Any]]) -> Scores:
    bases = {row["question"]: row["cluster"] for row in rows if "cluster" in row}
    said = {row["question"]: row["probabilities"] for row in rows}
    unscored = frozenset(each for each, row in said.items() if None in row.values())
    return Scores(
        {each: row for each, row in said.items() if each not in unscored}, bases, unscored
    )


def sample_counts(path: Path) -> dict[str, int]:
    """How many samples count of each question in an evaluation's artifact, where there are any."""
    return _sample_counts(read_rows(path))


def _sample_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {row["question"]: row["samples"] for row in rows if row.get("samples")}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All that an evaluation's artifact says of each question."""
    file = path / "scores.jsonl"
    if not file.is_file():
        raise InputError(
            f"{path} is not an evaluation (no scores.jsonl)", hint="subl eval makes one"
        )
    try:
        with file.open("rb") as lines:  # as bytes: a question may hold what text breaks lines at
            return [json.loads(line) for line in lines]
    except ValueError as error:
        raise InputError(f"{file} is damaged: {error}", hint="make it again") from error
