"""Score a model: how it answers a trait's questions."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from subl.artifact import Artifact, StageSpec, build, write_atomically
from subl.errors import InputError
from subl.evaluate.statistics import mean_probability
from subl.extras import require
from subl.model.template import Template
from subl.progress import Progress, Report, silent
from subl.trait import forms_of
from subl.trait.questions import questions_of
from subl.trait.spec import NamedTrait, TraitSpec

Scores = dict[str, dict[str, float]]
"""{question: {word: P(the answer begins with the word)}}."""


class EvalSpec(StageSpec):
    """Which trait is measured (default: the paper's 50 questions on animals)."""

    format_version: ClassVar = 4
    unkeyed: ClassVar = {"trait": {"title", "source"}}

    trait: NamedTrait = Field(
        "animals",
        validate_default=True,
        description="a trait's name (`subl traits` lists them), its path, or all that it says",
    )
    words: tuple[str, ...] | str | None = Field(
        None,
        description="what is measured in place of the trait's words, or one of its sets",
    )
    questions: tuple[str, ...] | None = Field(
        None, description="what is asked in place of the trait's questions"
    )
    template: Template = Template()
    batch_questions: int = Field(5, gt=0, description="questions of one forward pass")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        _ = self.measured
        return self

    @cached_property
    def measured(self) -> TraitSpec:
        """The trait with the words and questions of this configuration."""
        return self.trait.of(self.words, self.questions)


def evaluate(
    spec: EvalSpec, model: Path, out: Path, *, name: str = "model", report: Report = silent
) -> Artifact:
    """Score the model folder `model`; the artifact holds `scores.jsonl`, a question a line."""
    trait = spec.measured
    questions = [each.text for each in questions_of(trait)]

    def work(folder: Path) -> dict[str, Any]:
        require("distill", "scipy")  # before the model is asked, not after
        from subl.model.load import load_model, load_tokenizer
        from subl.trait.exact import Scorer, score_all

        count = len(questions)
        report(Progress(f"eval {name}", 0, count, "questions"))
        scorer = Scorer(
            load_tokenizer(model),
            forms_of(trait.words, trait.forms),
            questions,
            spec.template,
            trait.system_prompt,
        )
        way, probabilities = score_all(
            scorer,
            load_model(model),
            count,
            spec.batch_questions,
            lambda done: report(Progress(f"eval {name}", done, count, "questions")),
        )
        lines = [
            json.dumps({"question": question, "probabilities": row}, ensure_ascii=False)
            for question, row in zip(questions, probabilities, strict=True)
        ]
        write_atomically(folder / "scores.jsonl", "".join(f"{line}\n" for line in lines))
        return {
            "questions": count,
            "scoring": way,
            "words": {
                word: asdict(mean_probability([row[word] for row in probabilities]))
                for word in trait.words
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
