"""Pairs of rows as a stage of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subl.artifact import Artifact
from subl.cost import CHARACTERS_A_TOKEN, Rows
from subl.pair.run import names, pair
from subl.pair.spec import PairSpec
from subl.progress import Report
from subl.stage import Given, Input, Stage


def _make(spec: PairSpec, given: Given, out: Path, name: str, report: Report) -> Artifact:
    return pair(spec, given["rows"], given["against"], out, name=name, report=report)


def _names(spec: PairSpec, given: Given) -> dict[str, Path]:
    return names(given["rows"], given["against"])


def _rows(spec: PairSpec, given: Rows) -> Rows:
    asked = len(spec.template) / CHARACTERS_A_TOKEN + given.prompt + 2 * given.completion
    return Rows(spec.rows or given.count, asked, 1)


def _detail(result: Mapping[str, Any]) -> str:
    return f"{result['rows']} pairs"


PAIR = Stage(
    "pair",
    "rows",
    PairSpec,
    {
        "rows": Input("rows", "Rows whose answers are the right ones.", many=True),
        "against": Input("rows", "Others; what is in rows, too, counts for nothing.", many=True),
    },
    _make,
    names=_names,
    rows=_rows,
    detail=_detail,
)
