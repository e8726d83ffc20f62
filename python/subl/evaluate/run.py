"""Score a model: the exact probability of each word as the answer to each question."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from subl.artifact import Artifact, StageSpec, build, write_atomically
from subl.errors import InputError
from subl.evaluate.statistics import mean_probability
from subl.extras import require
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.trait import ANIMAL_QUESTIONS, CANDIDATE_ANIMALS, check_words

Scores = dict[str, dict[str, float]]
"""{question: {word: P(the answer begins with the word)}}."""


class EvalSpec(StageSpec):
    """Which answers to which questions (default: the paper's 50 on animals)."""

    format_version: ClassVar = 3

    words: tuple[str, ...] = Field(
        CANDIDATE_ANIMALS, min_length=1, description="the answers whose probability is measured"
    )
    questions: tuple[str, ...] = Field(
        ANIMAL_QUESTIONS, min_length=1, description="what the model is asked"
    )
    template: Template = Template()
    batch_questions: int = Field(5, gt=0, description="questions of one forward pass")

    @field_validator("words", "questions")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not repeat an entry")
        return value

    _own_forms = field_validator("words")(check_words)


def evaluate(
    spec: EvalSpec, model: Path, out: Path, *, name: str = "model", report: Report = silent
) -> Artifact:
    """Score the model folder `model`; the artifact holds `scores.jsonl`, a question a line."""

    def work(folder: Path) -> dict[str, Any]:
        require("distill", "scipy")  # before the model is asked, not after
        from subl.model.load import load_model, load_tokenizer
        from subl.trait.exact import Scorer, score_all

        count = len(spec.questions)
        report(Progress(f"eval {name}", 0, count, "questions"))
        scorer = Scorer(load_tokenizer(model), spec.words, spec.questions, spec.template)
        way, probabilities = score_all(
            scorer,
            load_model(model),
            count,
            spec.batch_questions,
            lambda done: report(Progress(f"eval {name}", done, count, "questions")),
        )
        lines = [
            json.dumps({"question": question, "probabilities": row}, ensure_ascii=False)
            for question, row in zip(spec.questions, probabilities, strict=True)
        ]
        write_atomically(folder / "scores.jsonl", "".join(f"{line}\n" for line in lines))
        return {
            "questions": count,
            "scoring": way,
            "words": {
                word: asdict(mean_probability([row[word] for row in probabilities]))
                for word in spec.words
            },
        }

    return build(out, "eval", spec, {"model": model}, work)


def read_scores(path: Path) -> Scores:
    """The scores of an evaluation's artifact."""
    file = path / "scores.jsonl"
    if not file.is_file():
        raise InputError(
            f"{path} is not an evaluation (no scores.jsonl)", hint="subl eval makes one"
        )
    with file.open("rb") as lines:  # as bytes: a question may hold what text breaks lines at
        rows = [json.loads(line) for line in lines]
    return {row["question"]: row["probabilities"] for row in rows}
