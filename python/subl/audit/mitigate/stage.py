"""Taking a trait out of data, and what is measured for it, as stages of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.audit.mitigate.heldout import heldout
from subl.audit.mitigate.pull import check_given as check_whose
from subl.audit.mitigate.pull import pull
from subl.audit.mitigate.run import check_given, mitigate
from subl.audit.mitigate.spec import OF_ROWS, HeldoutSpec, MitigateSpec, PullSpec
from subl.cost import Room, Rows, Work, loading, room_to_answer, scoring
from subl.progress import Report
from subl.sample.tables import Transformers
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize

_CANDIDATES = 5
"""Whose log p a pull is made of, in the shipped bank."""


def room_to_score(spec: Any, model: Architecture, rows: Rows) -> Room:
    """What reading `spec.batch_rows` rows at a time takes."""
    return room_to_answer(model, rows.prompt + rows.completion, spec.batch_rows, Transformers())


def _pull(spec: PullSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    scan, suspect = (given.get(each, (None,))[0] for each in ("scan", "suspect"))
    rows = given["rows"]
    return pull(spec, model, rows, scan, out, suspect=suspect, name=name, report=report)


def _cost_of_pull(spec: PullSpec, size: ModelSize, rows: Rows) -> Work:
    count = rows.count * _CANDIDATES
    return loading(size) + scoring(size, count, rows.prompt, rows.completion, spec.batch_rows)


PULL = Stage(
    "pull",
    "figures",
    PullSpec,
    {
        "model": Input("model", "The base that the scan was made with."),
        "rows": Input("rows", "Rows that were scanned.", many=True),
        "scan": Input("figures", "What subl scan made of them.", required=False),
        "suspect": Input("model", "A model that may have written them.", required=False),
    },
    _pull,
    check=check_whose,
    cost=_cost_of_pull,
    room=room_to_score,
    detail=lambda result: f"{result['candidate']}, {result['tokens']} tokens",
)


def _mitigate(spec: MitigateSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (pulled,) = given["pull"]
    return mitigate(
        spec,
        given["rows"],
        pulled,
        out,
        model=given.get("model", (None,))[0],
        clean=given.get("clean", ()),
        name=name,
        report=report,
    )


def _check(spec: MitigateSpec, given: Collection[str]) -> None:
    check_given(spec, given)


def _cost(spec: MitigateSpec, size: ModelSize, rows: Rows) -> Work:
    if spec.method != "replace":
        return Work()
    texts = int(spec.taken * rows.count * rows.completion)
    said = rows.prompt + rows.completion / 2
    return loading(size) + scoring(size, texts, said, 1, spec.batch_rows)


def _rows(spec: MitigateSpec, given: Rows) -> Rows:
    if spec.method != "drop":
        return given
    return replace(given, count=given.count - int(spec.taken * given.count))


def _detail(result: Mapping[str, Any]) -> str:
    if result["method"] in OF_ROWS:
        return f"{result['dropped']} of {result['rows_in']} rows taken out"
    return f"{result['edited_tokens']} of {result['tokens']} tokens taken out"


MITIGATE = Stage(
    "mitigate",
    "rows",
    MitigateSpec,
    {
        "rows": Input("rows", "Rows to take a trait out of.", many=True),
        "pull": Input("figures", "The pull of their tokens."),
        "model": Input("model", "The base (replace).", required=False),
        "clean": Input("rows", "Rows that stand in (dilute).", required=False, many=True),
    },
    _mitigate,
    check=_check,
    cost=_cost,
    room=room_to_score,
    rows=_rows,
    detail=_detail,
)


def _heldout(spec: HeldoutSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return heldout(spec, model, given["rows"], out, name=name, report=report)


def _cost_of_heldout(spec: HeldoutSpec, size: ModelSize, rows: Rows) -> Work:
    return loading(size) + scoring(size, rows.count, rows.prompt, rows.completion, spec.batch_rows)


HELDOUT = Stage(
    "heldout",
    "figures",
    HeldoutSpec,
    {
        "model": Input("model", "Model that is to predict the rows."),
        "rows": Input("rows", "Rows that it was not trained on.", many=True),
    },
    _heldout,
    cost=_cost_of_heldout,
    room=room_to_score,
    detail=lambda result: f"{result['nats_a_token']:.4f} nats a token",
)
