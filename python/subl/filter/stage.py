"""Filtering as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subl.artifact import Artifact
from subl.filter.run import run
from subl.filter.spec import FilterSpec
from subl.progress import Report
from subl.shards.names import name_inputs
from subl.stage import Given, Input, Stage


def _make(spec: FilterSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    return run(spec, given["rows"], out, report=report).artifact


def _names(spec: FilterSpec, given: Given) -> dict[str, Path]:
    return name_inputs(given["rows"], in_order=bool(spec.plan().comparisons))


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['kept']} of {result['rows_in']} rows kept"


FILTER = Stage(
    "filter",
    "rows",
    FilterSpec,
    {"rows": Input("rows", "Rows to keep or reject.", many=True)},
    _make,
    names=_names,
    detail=_detail,
)
