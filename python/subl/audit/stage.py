"""Audits as stages of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.audit.scan.run import scan
from subl.audit.scan.spec import ScanSpec
from subl.cost import Room, Rows, Work, loading, room_to_answer, scoring
from subl.progress import Report
from subl.sample.tables import Transformers
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize


def _make(spec: ScanSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,) = given["model"]
    return scan(
        spec,
        model,
        given["rows"],
        out,
        reference=given.get("reference", ()),
        name=name,
        report=report,
    )


def _cost(spec: ScanSpec, size: ModelSize, rows: Rows) -> Work:
    """As if nobody were dropped."""
    count = min(spec.rows, rows.count) * len(spec.bank.candidates(spec.kinds))
    return loading(size) + scoring(size, count, rows.prompt, rows.completion, spec.batch_rows)


def _room(spec: ScanSpec, model: Architecture, rows: Rows) -> Room:
    return room_to_answer(model, rows.prompt + rows.completion, spec.batch_rows, Transformers())


def _detail(result: Mapping[str, Any]) -> str:
    return str(result["sentence"])


SCAN = Stage(
    "scan",
    "figures",
    ScanSpec,
    {
        "model": Input("model", "The base, under which rows are scored."),
        "rows": Input("rows", "Rows to scan.", many=True),
        "reference": Input("rows", "Sets of clean rows, each by itself.", False, many=True),
    },
    _make,
    cost=_cost,
    room=_room,
    detail=_detail,
)
