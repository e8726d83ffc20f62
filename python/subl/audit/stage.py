"""Audits as stages of an experiment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import Artifact
from subl.audit.mitigate.stage import HELDOUT, MITIGATE, PULL, room_to_score
from subl.audit.predict.features import Planned
from subl.audit.predict.run import calibrate, predict
from subl.audit.predict.spec import CalibrateSpec, PredictSpec
from subl.audit.scan.run import scan, scan_names
from subl.audit.scan.spec import ScanSpec
from subl.cost import Room, Rows, Work, loading, room_to_train, scoring, training
from subl.distill import check_given
from subl.progress import Report
from subl.stage import Given, Input, Stage

if TYPE_CHECKING:
    from subl.model.size import Architecture, ModelSize


def _make(spec: ScanSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    (model,), (pilot,) = given["model"], given.get("pilot", (None,))
    return scan(
        spec,
        model,
        given["rows"],
        out,
        reference=given.get("reference", ()),
        pilot=pilot,
        name=name,
        report=report,
    )


def _cost(spec: ScanSpec, size: ModelSize, rows: Rows) -> Work:
    """As if nobody were dropped."""
    count = min(spec.rows, rows.count) * len(spec.bank.candidates(spec.kinds))
    return loading(size) + scoring(size, count, rows.prompt, rows.completion, spec.batch_rows)


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
        "pilot": Input("model", "A small model that says which candidates are asked about.", False),
    },
    _make,
    names=scan_names,
    cost=_cost,
    room=room_to_score,
    detail=_detail,
)


def _make_prediction(
    spec: PredictSpec, given: Given, out: Path, name: str, report: Report
) -> Artifact:
    teacher, cache, calibration = (
        given.get(each, (None,))[0] for each in ("teacher", "cache", "calibration")
    )
    (model,) = given["model"]
    planned = Planned(model, given["rows"], teacher, cache)
    return predict(spec, planned, out, calibration=calibration, name=name, report=report)


def _check_prediction(spec: PredictSpec, given: Collection[str]) -> None:
    teacher, cache = (Path() if each in given else None for each in ("teacher", "cache"))
    check_given(spec.distill, teacher, cache)


def _cost_of_prediction(spec: PredictSpec, size: ModelSize, rows: Rows) -> Work:
    """The pilots, and about two steps' worth of gradients, scores and personas."""
    tokens, train = rows.prompt + rows.completion, spec.distill.train
    teacher = spec.distill.targets in ("teacher", "base")
    work = loading(size)
    for updates in (2, *spec.pilot):
        short = train.model_copy(update={"steps": updates, "epochs": None})
        work += training(short, size, rows.count, tokens, rows.completion, teacher=teacher)
    return work


def _room_for_prediction(spec: PredictSpec, model: Architecture, rows: Rows) -> Room:
    return room_to_train(spec.distill.train, model, teacher=spec.distill.targets == "teacher")


PREDICT = Stage(
    "predict",
    "figures",
    PredictSpec,
    {
        "model": Input("model", "The base that students are to start from."),
        "rows": Input("rows", "Rows that students are to be trained on.", many=True),
        "teacher": Input("model", 'Teacher; needed for targets = "teacher".', required=False),
        "cache": Input("cache", 'Cache; needed for targets = "cache".', required=False),
        "calibration": Input("calibration", "Past runs, for the interval.", required=False),
    },
    _make_prediction,
    check=_check_prediction,
    cost=_cost_of_prediction,
    room=_room_for_prediction,
    detail=_detail,
)


def _make_calibration(
    spec: CalibrateSpec, given: Given, out: Path, name: str, report: Report
) -> Artifact:
    students, evaluations = (given.get(each, ()) for each in ("student", "eval"))
    return calibrate(spec, students, evaluations, out, name=name, report=report)


def _names_of_calibration(spec: CalibrateSpec, given: Given) -> dict[str, Path]:
    return {f"{name}-{number}": path for name in given for number, path in enumerate(given[name])}


CALIBRATE = Stage(
    "calibrate",
    "calibration",
    CalibrateSpec,
    {
        "student": Input("model", "Students that were trained.", many=True),
        "eval": Input("scores", "Exact evaluations of them and of their base.", many=True),
    },
    _make_calibration,
    names=_names_of_calibration,
    detail=lambda result: f"{result['runs']} runs",
)

__all__ = ["CALIBRATE", "HELDOUT", "MITIGATE", "PREDICT", "PULL", "SCAN"]
