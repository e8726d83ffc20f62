"""Run an experiment's chain, skipping what is done, and state what came out.

RUN/
  owl-teacher-3fa91c02/   one artifact a step, named after the step and its key: a changed
  ...                     configuration makes new ones beside the old
  result.json             the figures: steps, trait matrix, effects, findings
  report.html             the same for a person
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from subl.artifact import (
    Artifact,
    input_digest,
    json_text,
    made_here,
    open_artifact,
    plan_key,
    write_atomically,
)
from subl.errors import DependencyError
from subl.evaluate import read_scores
from subl.experiment.estimate import Estimate, estimate, measure, model_size
from subl.experiment.spec import ExperimentSpec
from subl.experiment.steps import Step, base_step, steps
from subl.experiment.verdict import Verdict, judge
from subl.model.load import require_torch
from subl.model.source import is_folder
from subl.progress import Progress, Report, silent


@dataclass(frozen=True)
class StepState:
    """Where a step stands: `done` (found), `made` (just now), `todo`.

    `seconds`: what it took, or will take on this machine; None where nobody can tell yet.
    """

    step: Step
    state: Literal["done", "made", "todo"]
    path: Path | None
    seconds: float | None


@dataclass(frozen=True)
class RunResult:
    """A finished run. `passed` is false where `[expect]` was not met."""

    path: Path
    report: Path
    verdict: Verdict
    steps: tuple[StepState, ...]

    @property
    def passed(self) -> bool:
        return all(finding.met is not False for finding in self.verdict.findings)


def plan(spec: ExperimentSpec, out: Path) -> list[StepState]:
    """What `run` would find done and what it would do, in what time; writes nothing."""
    states, expected = _survey(spec, out, {})
    if expected is None:
        return states
    now = time.monotonic()
    return [
        replace(each, seconds=expected.step_seconds(each.step.name, now))
        if each.state == "todo"
        else each
        for each in states
    ]


def _survey(
    spec: ExperimentSpec, out: Path, digests: dict[Path, str]
) -> tuple[list[StepState], Estimate | None]:
    """Where each step stands, and how long those that are left will take: None where none are left,
    nothing is known of the model yet, or what would measure this machine is not installed."""
    made: dict[str, Path] = {}
    states: list[StepState] = []
    for step in _chain(spec, made):
        place = _place(step, made, out, digests)
        if place is not None and (place / "statement.json").is_file():
            made[step.name] = place
            states.append(StepState(step, "done", place, open_artifact(place).seconds))
        else:
            states.append(StepState(step, "todo", place, None))
    if all(state.state == "done" for state in states):
        return states, None
    try:
        require_torch()
    except DependencyError:
        return states, None  # a step that needs it says so
    size = model_size(spec.model, made.get("base"))
    if size is None:
        return states, None
    expected = estimate(spec, [state.step for state in states], size, measure())
    for state in states:
        if state.state == "done" and state.path is not None:
            expected.finish(state.step.name, state.seconds if made_here(state.path) else None)
    return states, expected


def run(
    spec: ExperimentSpec,
    out: Path,
    *,
    report: Report = silent,
    on_step: Callable[[StepState], None] = lambda state: None,
) -> RunResult:
    """Make every artifact of the chain in `out`, then `result.json` and `report.html`.

    `report` hears before the first step how long all of them will take, and what is left of that
    with everything that the steps report.
    """
    from subl.experiment.document import run_document
    from subl.report import render

    made: dict[str, Path] = {}
    states: list[StepState] = []
    digests: dict[Path, str] = {}
    clock = _Clock(spec, out, report, digests)
    for step in _chain(spec, made):
        place = _place(step, made, out, digests)
        assert place is not None, "a step's inputs come before it"
        inputs = {name: made[source] for name, source in step.inputs.items()}
        clock.begin(step)
        artifact = step.make(inputs, place, clock.report)
        made[step.name] = place
        state = StepState(step, "done" if artifact.reused else "made", place, artifact.seconds)
        states.append(state)
        on_step(state)
        clock.finish(state)
    evals = {name: path for name, path in made.items() if name.endswith("-eval")}
    verdict = judge(
        spec, {name.removesuffix("-eval"): read_scores(path) for name, path in evals.items()}
    )
    result = _result(spec, verdict, states, out)
    write_atomically(out / "result.json", json_text(result, indent=2) + "\n")
    page = out / "report.html"
    write_atomically(page, render(run_document(out)))
    return RunResult(out, page, verdict, tuple(states))


class _Clock:
    """Hands on what steps report, with how long the run still takes."""

    def __init__(
        self, spec: ExperimentSpec, out: Path, report: Report, digests: dict[Path, str]
    ) -> None:
        self._spec, self._out, self._report, self._digests = spec, out, report, digests
        self._survey()

    def _survey(self) -> None:
        states, self._expected = _survey(self._spec, self._out, self._digests)
        self._total = len(states)
        self._done = sum(state.state == "done" for state in states)
        self._tell()

    def begin(self, step: Step) -> None:
        if self._expected is not None:
            self._expected.begin(step.name, time.monotonic())

    def report(self, progress: Progress) -> None:
        if self._expected is not None:
            self._expected.advance(progress)
            left = round(self._expected.seconds_left(time.monotonic()), 1)
            progress = replace(progress, run_seconds_left=left)
        self._report(progress)

    def finish(self, state: StepState) -> None:
        if state.state == "done":
            return  # it was counted in the survey
        if state.step.name == "base":
            self._survey()  # now the model's size is known, and not guessed
            return
        if self._expected is not None:
            self._expected.finish(state.step.name, state.seconds)
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        self.report(Progress("run", self._done, self._total, "steps"))


def _chain(spec: ExperimentSpec, made: dict[str, Path]) -> list[Step]:
    """The steps; where the base model is a local folder it counts as made."""
    if is_folder(spec.model):
        made["base"] = Path(spec.model).expanduser()
        return steps(spec)
    return [base_step(spec.model), *steps(spec)]


def _place(
    step: Step, made: Mapping[str, Path], out: Path, digests: dict[Path, str]
) -> Path | None:
    """Where a step's artifact belongs; None while an input of it is missing.

    `digests`: of inputs that were seen before: a model of some gigabytes takes a while to read.
    """
    if any(source not in made for source in step.inputs.values()):
        return None
    inputs = {name: made[source] for name, source in step.inputs.items()}
    for path in inputs.values():
        if path not in digests:
            digests[path] = input_digest(path)
    named = {name: digests[path] for name, path in inputs.items()}
    return out / f"{step.name}-{plan_key(step.kind, step.spec, named)[:8]}"


def _result(
    spec: ExperimentSpec, verdict: Verdict, states: list[StepState], out: Path
) -> dict[str, Any]:
    artifacts: list[tuple[StepState, Artifact]] = [
        (state, open_artifact(state.path)) for state in states if state.path is not None
    ]
    return {
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "findings": [asdict(finding) for finding in verdict.findings],
        "matrix": verdict.matrix,
        "effects": [
            {**asdict(effect), "significant": effect.significant} for effect in verdict.effects
        ],
        "steps": [
            {
                "name": state.step.name,
                "kind": state.step.kind,
                "trait": state.step.trait,
                "inputs": dict(state.step.inputs),
                "path": artifact.path.relative_to(out).as_posix(),
                "digest": artifact.digest,
                "seconds": artifact.seconds,
            }
            for state, artifact in artifacts
        ],
    }
