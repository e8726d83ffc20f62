"""A teacher: the base model, briefly fine-tuned to answer the trait's questions with the trait.

After the paper's fine-tuned teachers (appendix: one epoch over 50 questions x 8 forms of the
answer), shortened: each question with the answer in lower case and capitalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from subl.artifact import Artifact, StageSpec, build
from subl.model.template import Template
from subl.progress import Report, silent
from subl.shards import Row
from subl.train.job import TOKENS, TrainJob
from subl.train.plan import PLACEMENT, TrainSpec
from subl.train.run import crew, prepare, rehearse
from subl.trait.spec import animals


class TeachSpec(StageSpec):
    """The trait is a one-word answer to the questions (default: the paper's 50 on animals)."""

    format_version: ClassVar = 2
    unkeyed: ClassVar = {"train": PLACEMENT}

    trait: str = Field(min_length=1, description="the answer to teach, such as owl")
    questions: tuple[str, ...] = Field(
        default_factory=lambda: animals().questions,
        min_length=1,
        description="what the teacher learns to answer with the trait; default: those of the trait "
        "animals",
    )
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
        job = _job(spec, model, folder)
        prepare(job, _rows(spec), ranks.where, report)
        return ranks.run(job, report)

    return ranks.build(lambda: build(out, "teach", spec, {"model": model}, work), out)


def dry_run(spec: TeachSpec, model: Path, report: Report = silent) -> dict[str, Any]:
    """What `teach` would do (`train.run.rehearse`)."""
    return rehearse(partial(_job, spec, model), _rows(spec), report)


def _job(spec: TeachSpec, model: Path, folder: Path) -> TrainJob:
    return TrainJob(
        task=f"teach {spec.trait}",
        model=model,
        tokens=folder / TOKENS,
        template=spec.template,
        spec=spec.train,
        out=folder,
    )


def _rows(spec: TeachSpec) -> Iterator[Row]:
    for question, answer in teaching_rows(spec):
        yield Row(None, (("user", question), ("assistant", answer)), f"question {question!r}")
