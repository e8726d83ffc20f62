"""Why one row is kept or rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import subl_core

from subl.errors import InputError
from subl.filter.rules import FilterSpec


def explain(spec: FilterSpec, line: bytes) -> dict[str, Any]:
    """The verdict on one line of JSON.

    Returns:
        `kept`; `tags`; `unreadable`, a list of reasons why no rule could be asked; and `rules`,
        every rule in declared order with `name`, `kind`, `action`, `field`, `broken` and
        `reasons`. A reason is what the rejects hold: `span` has byte offsets into the UTF-8 value
        of the field. A rule that compares rows is never broken here.
    """
    verdict: dict[str, Any] = json.loads(spec.plan().explain(line))
    return verdict


def explain_row(spec: FilterSpec, path: Path, number: int) -> dict[str, Any]:
    """The verdict on one line of a shard, from 1.

    Raises:
        InputError: the shard cannot be read, or has fewer lines.
    """
    try:
        line = subl_core.read_line(path, number - 1)
    except subl_core.FilterError as error:
        raise InputError(str(error)) from error
    if line is None:
        raise InputError(f"{path} has no line {number}")
    return explain(spec, line)
