"""Drawing rows as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from subl.artifact import Artifact
from subl.cost import Rows
from subl.draw.run import draw
from subl.draw.spec import DrawSpec
from subl.progress import Report
from subl.stage import Given, Input, Stage


def _make(spec: DrawSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    return draw(spec, given["rows"], out, name=name, report=report)


def _rows(spec: DrawSpec, given: Rows) -> Rows:
    return given if spec.rows is None else replace(given, count=spec.rows)


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['rows']} rows"


DRAW = Stage(
    "draw",
    "rows",
    DrawSpec,
    {"rows": Input("rows", "Rows to draw of.", many=True)},
    _make,
    rows=_rows,
    detail=_detail,
)
