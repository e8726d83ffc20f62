"""A finished run as the document that the report shows. Reads artifacts, computes nothing new."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import subl
from subl.artifact import read_statement
from subl.errors import InputError
from subl.report import document as page
from subl.shards import shard_files

_EXAMPLES = 8


def run_document(run: Path) -> page.ReportDocument:
    """The document of the run in folder `run` (it has a result.json)."""
    result = _read_result(run)
    spec, steps = result["spec"], result["steps"]
    paths = {step["name"]: run / step["path"] for step in steps}
    first = read_statement(paths[steps[-1]["name"]]) or {}
    details = first.get("predicate", {}).get("runDetails", {})
    return page.ReportDocument(
        title=spec["title"],
        subl_version=subl.__version__,
        models=(spec["model"],),
        groups=spec["traits"],
        headline=tuple(page.Finding(**finding) for finding in result["findings"]),
        matrix=_matrix(spec, result["matrix"]),
        effects=tuple(_effect(spec, effect) for effect in result["effects"]),
        limits=_limits(),
        chain=_chain(run, steps),
        filters=tuple(
            _filter(step, paths[step["name"]]) for step in steps if step["kind"] == "filter"
        ),
        losses=(
            page.LossPanel(
                title="Students",
                quantity="KL to the teacher, nats per token",
                curves=_losses(steps, paths, "distill"),
            ),
            page.LossPanel(
                title="Teachers",
                quantity="Cross-entropy, nats per token",
                curves=_losses(steps, paths, "teach"),
            ),
        ),
        protocol_differences=spec["deviations"],
        wall_times=tuple(
            page.WallTime(stage=step["name"], seconds=step["seconds"]) for step in steps
        ),
        seeds=_seeds(spec),
        versions=details.get("builder", {}).get("version", {}),
        host=(details.get("byproducts") or [{}])[0].get("annotations", {}),
    )


def _read_result(run: Path) -> dict[str, Any]:
    file = run / "result.json"
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        result["spec"]["traits"], result["steps"], result["matrix"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{run} is not a finished run: cannot use {file}",
            hint="subl run EXPERIMENT.toml makes one",
        ) from error
    return result


def _matrix(spec: Mapping[str, Any], matrix: Mapping[str, Any]) -> page.TraitMatrix:
    rows = []
    for model, means in matrix.items():
        trait, _, role = model.rpartition("-")
        rows.append(
            page.MatrixRow(
                model=model,
                role=role,  # base, TRAIT-teacher, TRAIT-student
                group=trait or None,
                cells=tuple(
                    page.Probability(mean=mean["estimate"], low=mean["low"], high=mean["high"])
                    for mean in (means[word] for word in spec["eval"]["words"])
                ),
            )
        )
    return page.TraitMatrix(
        candidates=spec["eval"]["words"],
        rows=tuple(rows),
        n_questions=len(spec["eval"]["questions"]),
    )


def _effect(spec: Mapping[str, Any], effect: Mapping[str, Any]) -> page.Effect:
    trait = effect["treated"].rpartition("-")[0]
    return page.Effect(
        contrast="Students against each other and against the base",
        label=f"{effect['label']}: {effect['treated']} against {effect['control']}",
        group=trait if trait in spec["traits"] else None,
        estimate=effect["estimate"],
        low=effect["low"],
        high=effect["high"],
        unit=effect["unit"],
        p_value=effect["p_value"],
        n_questions=effect["questions"],
        significant=effect["significant"],
        note="paired t over questions, uncorrected",
    )


def _chain(run: Path, steps: list[dict[str, Any]]) -> page.Chain:
    names = {step["name"] for step in steps}
    nodes = [
        page.ChainNode(
            id=step["name"],
            kind=step["kind"],
            name=step["name"],
            group=step["trait"],
            digest=step["digest"],
            seconds=step["seconds"],
            detail=_detail(run / step["path"], step["kind"]),
        )
        for step in steps
    ]
    if "base" not in names:  # a local folder, which no step made
        statement = read_statement(run / steps[0]["path"]) or {}
        (model,) = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        digest = model["digest"]["sha256"]
        nodes.insert(0, page.ChainNode(id="base", kind="model", name="base", digest=digest))
    edges = [
        page.ChainEdge(source=source, target=step["name"])
        for step in steps
        for source in step["inputs"].values()
    ]
    return page.Chain(nodes=tuple(nodes), edges=tuple(edges))


def _detail(path: Path, kind: str) -> str:
    figures = json.loads((path / "result.json").read_text(encoding="utf-8"))
    match kind:
        case "model":
            count = figures.get("parameters")
            return f"{count / 1e6:.0f} M parameters" if count else "from the hub"
        case "teach" | "distill":
            return f"{figures['steps']} steps, loss {figures['last_loss']:.3f}"
        case "generate":
            return f"{figures['rows']} rows"
        case "filter":
            return f"{figures['kept']} of {figures['rows_in']} rows kept"
        case _:
            return f"{figures['questions']} questions"


def _filter(step: Mapping[str, Any], path: Path) -> page.FilterReport:
    figures = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return page.FilterReport(
        name=step["name"],
        group=step["trait"],
        rows_in=figures["rows_in"],
        rows_kept=figures["kept"],
        rows_rejected=figures["rejected"] - figures["unreadable"],
        rows_unreadable=figures["unreadable"],
        rules=tuple(
            page.FilterRule(
                name=rule["name"],
                kind=rule["kind"],
                hits=rule["hits"],
                sole_hits=rule["sole_hits"],
                reasons=rule["reasons"],
            )
            for rule in figures["rules"]
        ),
        rejected_examples=tuple(map(_rejected, _first_rows(path / "rejects", _EXAMPLES))),
        kept_examples=tuple(row["completion"] for row in _first_rows(path / "kept", 3)),
    )


def _rejected(reject: Mapping[str, Any]) -> page.RejectedRow:
    row = reject["row"]
    text = row if isinstance(row, str) else str(row.get("completion", ""))
    return page.RejectedRow(
        text=text,
        reasons=tuple(
            page.Rejection(
                rule=reason["rule"] or reason["kind"], reason=reason["reason"], span=reason["span"]
            )
            for reason in reject["reasons"]
        ),
    )


def _first_rows(folder: Path, count: int) -> list[dict[str, Any]]:
    import polars

    rows: list[dict[str, Any]] = []
    for file in shard_files(folder):
        lines = polars.scan_lines(file, glob=False).head(count - len(rows)).collect().to_series()
        rows += [json.loads(line) for line in lines if line.strip()]
        if len(rows) >= count:
            break
    return rows


def _losses(
    steps: list[dict[str, Any]], paths: Mapping[str, Path], kind: str
) -> tuple[page.LossCurve, ...]:
    curves = []
    for step in steps:
        if step["kind"] == kind:
            lines = (paths[step["name"]] / "losses.jsonl").read_text(encoding="utf-8").splitlines()
            points = tuple((each["step"], each["loss"]) for each in map(json.loads, lines))
            curves.append(page.LossCurve(name=step["name"], group=step["trait"], points=points))
    return tuple(curves)


def _seeds(spec: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        "teach": (spec["teach"]["train"]["seed"],),
        **{f"generate {each['name']}": (each["seed"],) for each in spec["generate"]},
        "distill": (spec["distill"]["train"]["seed"],),
    }


def _limits() -> tuple[str, ...]:
    return (
        "This is one paired run with one seed. Where each student moves towards its own trait and "
        "not towards the other's, it shows a double dissociation on these questions, for these "
        "traits and this base model. About other traits, questions and bases it says nothing.",
        "The intervals are over questions. Seeds are a second level: another seed draws other rows "
        "and trains another student, and that spread cannot be seen in a single run.",
        "“Not significant” means that this run could not tell the effect from none. It does not "
        "mean that there is none.",
    )
