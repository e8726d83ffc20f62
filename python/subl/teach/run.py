"""A teacher: the base model, briefly fine-tuned to answer the trait's questions with the trait.

After the paper's fine-tuned teachers (appendix: one epoch over 50 questions x 8 forms of the
answer), shortened: each question with the answer in lower case and capitalised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from subl.artifact import Artifact, StageSpec, build
from subl.model.template import Template
from subl.progress import Report, silent
from subl.shards import Row
from subl.train.loop import TrainJob
from subl.train.plan import PLACEMENT, TrainSpec
from subl.train.run import crew, prepare_tokens
from subl.trait import ANIMAL_QUESTIONS


class TeachSpec(StageSpec):
    """The trait is a one-word answer to the questions (default: the paper's 50 on animals)."""

    format_version: ClassVar = 2
    unkeyed: ClassVar = {"train": PLACEMENT}

    trait: str = Field(min_length=1, description="the answer to teach, such as owl")
    questions: tuple[str, ...] = Field(ANIMAL_QUESTIONS, min_length=1)
    template: Template = Template()
    train: TrainSpec


def teaching_rows(spec: TeachSpec) -> tuple[tuple[str, str], ...]:
    """(question, answer) pairs, the answer as it is and capitalised."""
    answers = dict.fromkeys((spec.trait, spec.trait.capitalize()))
    return tuple((question, answer) for question in spec.questions for answer in answers)


def teach(spec: TeachSpec, model: Path, out: Path, report: Report = silent) -> Artifact:
    """Fine-tune the model folder `model`; the artifact `out` is itself a model folder."""

    ranks = crew(spec.train, out)

    def work(folder: Path) -> dict[str, Any]:
        pairs = teaching_rows(spec)
        rows = (Row(None, (("user", q), ("assistant", a)), f"question {q!r}") for q, a in pairs)
        job = TrainJob(
            task=f"teach {spec.trait}",
            model=model,
            tokens=prepare_tokens(model, rows, spec.train, folder, report, spec.template),
            template=spec.template,
            spec=spec.train,
            out=folder,
        )
        return ranks.run(job, report)

    return ranks.build(lambda: build(out, "teach", spec, {"model": model}, work), out)
