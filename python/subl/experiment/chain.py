"""Run an experiment's chain, skipping what is done, and state what came out.

RUN/
  owl-teacher-3fa91c02/   one artifact a step, named after the step and its key: a changed
  ...                     configuration makes new ones beside the old
  result.json             the figures: steps, trait matrix, effects, findings
  report.html             the same for a person
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from subl.artifact import (
    Artifact,
    input_digest,
    json_text,
    open_artifact,
    plan_key,
    write_atomically,
)
from subl.evaluate import read_scores
from subl.experiment.spec import ExperimentSpec
from subl.experiment.steps import Step, base_step, steps
from subl.experiment.verdict import Verdict, judge
from subl.model.source import is_folder
from subl.progress import Report, silent


@dataclass(frozen=True)
class StepState:
    """Where a step stands: `done` (found), `made` (just now), `todo`."""

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
    """What `run` would find done and what it would do; writes nothing."""
    made: dict[str, Path] = {}
    states: list[StepState] = []
    for step in _chain(spec, made):
        place = _place(step, made, out)
        if place is not None and (place / "statement.json").is_file():
            made[step.name] = place
            states.append(StepState(step, "done", place, open_artifact(place).seconds))
        else:
            states.append(StepState(step, "todo", place, None))
    return states


def run(
    spec: ExperimentSpec,
    out: Path,
    *,
    report: Report = silent,
    on_step: Callable[[StepState], None] = lambda state: None,
) -> RunResult:
    """Make every artifact of the chain in `out`, then `result.json` and `report.html`."""
    from subl.experiment.document import run_document
    from subl.report import render

    made: dict[str, Path] = {}
    states: list[StepState] = []
    for step in _chain(spec, made):
        place = _place(step, made, out)
        assert place is not None, "a step's inputs come before it"
        inputs = {name: made[source] for name, source in step.inputs.items()}
        artifact = step.make(inputs, place, report)
        made[step.name] = place
        state = StepState(step, "done" if artifact.reused else "made", place, artifact.seconds)
        states.append(state)
        on_step(state)
    evals = {name: path for name, path in made.items() if name.endswith("-eval")}
    verdict = judge(
        spec, {name.removesuffix("-eval"): read_scores(path) for name, path in evals.items()}
    )
    result = _result(spec, verdict, states, out)
    write_atomically(out / "result.json", json_text(result, indent=2) + "\n")
    page = out / "report.html"
    write_atomically(page, render(run_document(out)))
    return RunResult(out, page, verdict, tuple(states))


def _chain(spec: ExperimentSpec, made: dict[str, Path]) -> list[Step]:
    """The steps; where the base model is a local folder it counts as made."""
    if is_folder(spec.model):
        made["base"] = Path(spec.model).expanduser()
        return steps(spec)
    return [base_step(spec.model), *steps(spec)]


def _place(step: Step, made: Mapping[str, Path], out: Path) -> Path | None:
    """Where a step's artifact belongs; None while an input of it is missing."""
    if any(source not in made for source in step.inputs.values()):
        return None
    digests = {name: input_digest(made[source]) for name, source in step.inputs.items()}
    return out / f"{step.name}-{plan_key(step.kind, step.spec, digests)[:8]}"


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
