"""Trainings of the past, as their artifacts state them: what was trained on what, and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from subl.artifact import (
    artifacts_in,
    input_digest,
    input_place,
    json_digest,
    read_statement,
    spec_record,
)
from subl.distill import DistillSpec
from subl.errors import InputError
from subl.evaluate import EvalSpec, read_scores
from subl.evaluate.compare import log_odds
from subl.train.plan import learning_rate

_EXPERIMENTS = "give folders that subl run has filled"


@dataclass(frozen=True)
class Made:
    """An artifact by what its statement says.

    Args:
        key: what it was made from and how: two with one key are the same, whatever they are called.
        digest: of its data.
        inputs: {name: digest}.
        paths: {name: where the input was, seen from here}.
    """

    path: Path
    kind: str
    key: str
    digest: str
    spec: Mapping[str, Any]
    inputs: Mapping[str, str]
    paths: Mapping[str, Path]
    started: str
    finished: str

    @staticmethod
    def at(path: Path) -> Made | None:
        """None: there is no artifact."""
        record = read_statement(path) if path.is_dir() else None
        if record is None:
            return None
        said = spec_record(record)
        definition = record["predicate"]["buildDefinition"]
        times = record["predicate"]["runDetails"]["metadata"]
        return Made(
            path,
            said["kind"],
            said["key"],
            definition["internalParameters"]["digest"],
            said["spec"],
            said["inputs"],
            {
                each["name"]: input_place(path, each["uri"])
                for each in definition["resolvedDependencies"]
            },
            times["startedOn"],
            times["finishedOn"],
        )

    def rows(self) -> dict[str, Path]:
        """{digest: path} of the rows that it was made from."""
        return {
            self.inputs[name]: path for name, path in self.paths.items() if name.startswith("rows-")
        }


@dataclass(frozen=True)
class Dose:
    """How much a training moves a model: `rate` is the sum of the learning rates of its updates."""

    kind: str
    updates: int
    rows_per_step: int
    learning_rate: float
    rate: float
    lora: bool

    @staticmethod
    def of(spec: DistillSpec, rows: int) -> Dose:
        """That of a planned training on so many rows."""
        train = spec.train
        steps = train.step_count(spec.rows or rows)
        return Dose(
            "SFT" if spec.targets == "labels" else "KD",
            steps,
            train.rows_per_step,
            train.learning_rate,
            math.fsum(learning_rate(train, steps, step) for step in range(steps)),
            train.lora is not None,
        )


@dataclass(frozen=True)
class Run:
    """A student, an evaluation of it, and one of its base, of the same questions and words."""

    student: Made
    spec: DistillSpec
    evaluation: Made
    base: Made
    words: tuple[str, ...]

    def shift(self, word: str) -> float:
        """By how much its log-odds over the other words rose, in nats, as a mean over questions."""
        measure = log_odds(word, [each for each in self.words if each != word])
        treated, control = read_scores(self.evaluation.path), read_scores(self.base.path)
        return fmean(measure.of(treated[each]) - measure.of(control[each]) for each in control)


def evaluation_spec(made: Made) -> EvalSpec:
    """What an evaluation was told.

    Raises:
        InputError: another version of subl made it.
    """
    spec: EvalSpec = _spec(EvalSpec, made)
    return spec


def _spec(model: Any, made: Made) -> Any:
    try:
        return model.model_validate(made.spec)
    except ValueError as error:
        raise InputError(
            f"{made.path} has a configuration that this version of subl does not know",
            hint="make it again, or leave it out",
        ) from error


def asked_digest(spec: EvalSpec) -> str:
    """What decides what an exact evaluation measures of a model."""
    return json_digest(
        [spec.measured.model_dump(mode="json", exclude={"name", "title", "source"}),
         spec.template.model_dump(mode="json")]
    )  # fmt: skip


def found_in(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The students, and the evaluations, in folders of finished experiments.

    Raises:
        InputError: a folder is none of these.
    """
    for folder in folders:
        if not folder.exists():
            raise InputError(f"{folder} does not exist", hint=_EXPERIMENTS)
        if read_statement(folder) is not None or not list(folder.glob("*/statement.json")):
            raise InputError(f"there is no finished experiment in {folder}", hint=_EXPERIMENTS)
    every = [made for folder in folders for path in artifacts_in(folder) if (made := Made.at(path))]
    students = [each.path for each in every if each.kind == "distill"]
    return students, [each.path for each in every if each.kind == "eval"]


def runs_of(students: Sequence[Path], evaluations: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Each student once, with what was measured of it; and a sentence for each that is left out.

    Raises:
        InputError: what is given is no artifact of that kind.
    """
    scored: dict[str, list[Made]] = {}
    for path in evaluations:
        each = _made(path, "eval")
        if "model" in each.inputs and evaluation_spec(each).way == "exact":
            scored.setdefault(each.inputs["model"], []).append(each)
    runs: dict[str, Run] = {}
    left_out = []
    for path in students:
        student = _made(path, "distill")
        if student.key in runs:
            continue
        pairs = [
            (theirs, base)
            for theirs in scored.get(student.digest, [])
            for base in scored.get(student.inputs["model"], [])
            if asked_digest(evaluation_spec(theirs)) == asked_digest(evaluation_spec(base))
        ]
        if not pairs:
            left_out.append(f"{path}: no exact evaluation of it and its base on the same questions")
            continue
        if gone := [each for each in student.paths.values() if not each.exists()]:
            left_out.append(f"{path}: {gone[0]} is gone")
            continue
        theirs, base = pairs[0]
        words = evaluation_spec(theirs).measured.words
        runs[student.key] = Run(student, _spec(DistillSpec, student), theirs, base, words)
    for run in runs.values():
        for name, place in run.student.paths.items():
            if input_digest(place) != run.student.inputs[name]:
                raise InputError(
                    f"{place} is not what {run.student.path} was trained on or with",
                    hint="restore it, or leave that run out",
                )
    return list(runs.values()), left_out


def _made(path: Path, kind: str) -> Made:
    made = Made.at(path)
    if made is None or made.kind != kind:
        raise InputError(
            f"{path} is not what subl {kind} made", hint="give the folder of such an artifact"
        )
    return made
