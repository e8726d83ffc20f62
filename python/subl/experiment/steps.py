"""The chain of an experiment as data: which stage makes what from what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subl.artifact import Artifact, StageSpec
from subl.distill import distill
from subl.evaluate import evaluate
from subl.experiment.spec import ExperimentSpec
from subl.filter import run as run_filter
from subl.generate import GenerateSpec, generate
from subl.model.source import ModelSpec, add
from subl.progress import Report
from subl.teach import TeachSpec, teach

Make = Callable[[Mapping[str, Path], Path, Report], Artifact]
"""(paths of the inputs by name, where to write, whom to tell) -> what was made."""


@dataclass(frozen=True)
class Step:
    """One artifact of the chain. `inputs` maps the stage's own input names to steps' names."""

    name: str
    kind: str
    trait: str | None
    spec: StageSpec
    inputs: Mapping[str, str]
    make: Make = field(repr=False)


def base_step(source: str) -> Step:
    """Turn the source into a model folder (not needed where it is one)."""
    return Step(
        "base",
        "model",
        None,
        ModelSpec(source=source),
        {},
        lambda inputs, out, report: add(source, out, report),
    )


def steps(spec: ExperimentSpec) -> list[Step]:
    """Every step behind the base model, in an order in which inputs come first."""
    chain: list[Step] = []
    for trait in spec.traits:
        chain += _trait_steps(spec, trait)
    models = ["base", *(f"{trait}-teacher" for trait in spec.traits)]
    models += [f"{trait}-student" for trait in spec.traits]
    return [*chain, *(_eval_step(spec, model) for model in models)]


def _trait_steps(spec: ExperimentSpec, trait: str) -> list[Step]:
    teacher, filtered, student = f"{trait}-teacher", f"{trait}-filtered", f"{trait}-student"
    teach_spec = TeachSpec(trait=trait, **dict(spec.teach))
    chain = [
        Step(
            teacher,
            "teach",
            trait,
            teach_spec,
            {"model": "base"},
            lambda inputs, out, report: teach(teach_spec, inputs["model"], out, report),
        )
    ]
    generations = []
    for section in spec.generate:
        name = f"{trait}-{section.name}"
        generations.append(name)
        chain.append(_generate_step(section.spec(trait), name, trait, teacher, section.source))

    def make_kept(inputs: Mapping[str, Path], out: Path, report: Report) -> Artifact:
        return run_filter(
            spec.filter, [inputs[name] for name in sorted(inputs)], out, report=report
        ).artifact

    def make_student(inputs: Mapping[str, Path], out: Path, report: Report) -> Artifact:
        return distill(
            spec.distill,
            inputs["model"],
            [inputs["rows-0"]],
            out,
            teacher=inputs.get("teacher"),
            name=student,
            report=report,
        )

    student_inputs = {"model": "base", "rows-0": filtered}
    if spec.distill.targets == "teacher":
        student_inputs["teacher"] = teacher
    filter_inputs = {f"input-{index:03d}": name for index, name in enumerate(generations)}
    return [
        *chain,
        Step(filtered, "filter", trait, spec.filter, filter_inputs, make_kept),
        Step(student, "distill", trait, spec.distill, student_inputs, make_student),
    ]


def _generate_step(
    generation: GenerateSpec, name: str, trait: str, teacher: str, source: str
) -> Step:
    return Step(
        name,
        "generate",
        trait,
        generation,
        {"model": teacher if source == "teacher" else "base"},
        lambda inputs, out, report: generate(
            generation, inputs["model"], out, name=name, report=report
        ),
    )


def _eval_step(spec: ExperimentSpec, model: str) -> Step:
    trait = None if model == "base" else model.rpartition("-")[0]
    return Step(
        f"{model}-eval",
        "eval",
        trait,
        spec.eval,
        {"model": model},
        lambda inputs, out, report: evaluate(
            spec.eval, inputs["model"], out, name=model, report=report
        ),
    )
