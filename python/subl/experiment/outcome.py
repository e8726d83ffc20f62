"""What a finished run came to: `result.json` for programs, `report.html` for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from subl.artifact import (
    input_digest,
    json_text,
    open_artifact,
    read_statement,
    write_atomically,
)
from subl.evaluate import read_scores
from subl.experiment.arms import Evaluation, arms
from subl.experiment.contrasts import Effect, Finding, Planned, findings, judged
from subl.experiment.graph import Node
from subl.experiment.spec import label, value_of
from subl.experiment.survey import Folder


@dataclass(frozen=True)
class Outcome:
    """What was found, and where the page is that shows it. `figures`: of each node that makes
    some, in the form of docs/reproduction/*.json, with more."""

    page: Path
    findings: tuple[Finding, ...]
    figures: Mapping[str, Sequence[Mapping[str, Any]]]
    effects: tuple[Effect, ...]
    evaluations: tuple[Evaluation, ...]


def conclude(folder: Folder, contrasts: list[Planned]) -> Outcome:
    """Write `result.json` and `report.html` of a run whose nodes are all made."""
    from subl.experiment.document import run_document
    from subl.report import render

    graph = folder.graph
    scores = {
        node.name: read_scores(folder.done[node])
        for node in graph.nodes
        if node.how.gives == "scores"
    }
    effects = judged(contrasts, scores)
    results = {
        node.name: open_artifact(folder.done[node]).result
        for node in graph.nodes
        if node.how.gives == "figures"
    }
    # Audits have figures for other stages, and state nothing of the run.
    own = {name: result for name, result in results.items() if "findings" in result}
    found = Outcome(
        folder.path / "report.html",
        (
            *findings(effects),
            *(Finding(**each) for result in own.values() for each in result["findings"]),
        ),
        {name: result["figures"] for name, result in own.items()},
        tuple(effects),
        tuple(arms(graph, scores)),
    )
    write_atomically(
        folder.path / "result.json", json_text(_record(folder, found), indent=2) + "\n"
    )
    write_atomically(found.page, render(run_document(folder.path)))
    return found


def _record(folder: Folder, outcome: Outcome) -> dict[str, Any]:
    spec = folder.graph.spec
    return {
        "name": spec.name,
        "title": spec.title,
        "deviations": list(spec.deviations),
        "axes": {
            axis: {label(axis, point): value_of(point) for point in points}
            for axis, points in spec.axes.items()
        },
        "findings": [asdict(finding) for finding in outcome.findings],
        "evaluations": [asdict(each) for each in outcome.evaluations],
        "effects": list(map(recorded, outcome.effects)),
        "nodes": [_node(folder, node) for node in folder.graph.nodes],
    }


def recorded(effect: Effect) -> dict[str, Any]:
    """As `result.json` has an effect."""
    return {
        "contrast": effect.contrast,
        "point": dict(effect.point),
        "group": effect.group,
        "word": effect.word,
        **asdict(effect.comparison),
        "significant": effect.comparison.significant,
        "met": effect.met,
    }


def _node(folder: Folder, node: Node) -> dict[str, Any]:
    path = folder.done[node]
    inside = node in folder.nodes
    artifact = open_artifact(path) if read_statement(path) is not None else None
    return {
        "name": node.name,
        "stage": node.stage,
        "kind": node.how.kind,
        "point": dict(node.point),
        "inputs": {
            name: [each.name if isinstance(each, Node) else str(each) for each in found]
            for name, found in node.inputs.items()
        },
        "path": path.relative_to(folder.path).as_posix() if inside else str(path),
        "digest": input_digest(path) if artifact is None else artifact.digest,
        "seconds": artifact.seconds if artifact is not None and inside else None,
        "detail": "" if artifact is None else node.how.detail(artifact.result),
    }
