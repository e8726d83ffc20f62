"""Why one row is kept or rejected, and what rules say in words."""

from __future__ import annotations

import inspect
import itertools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import subl_core
from pydantic import BaseModel

from subl.errors import InputError
from subl.filter.rules import FilterSpec
from subl.shards import format_of, open_lines
from subl.shards.parquet import json_line, read_frames


def explain(spec: FilterSpec, line: bytes) -> dict[str, Any]:
    """The verdict on one line of JSON.

    Returns:
        `kept`; `tags`; `unreadable`, a list of reasons why no rule could be asked; `values`, the
        texts of each field; and `rules`, every rule in declared order with `name`, `kind`,
        `action`, `field`, `broken` and `reasons`. A reason is what the rejects hold: `span` has
        byte offsets into the UTF-8 value of the field. `broken` is None for a rule that compares
        rows, and for a rule about such a rule: nobody asked the other rows.
    """
    verdict: dict[str, Any] = json.loads(spec.plan().explain(line))
    return verdict


def read_line(file: Path, number: int) -> bytes:
    """Line `number` (from 1) of a shard, or of stdin where `file` is `-`.

    A row of Parquet comes as JSON.

    Raises:
        InputError: the file cannot be read, or has fewer lines.
    """
    if number < 1:
        raise InputError(f"rows are counted from 1 (got {number})")
    if str(file) == "-":
        counter = itertools.count()
        counted = zip(sys.stdin.buffer, counter, strict=False)
        found: tuple[bytes, int] | None = next(itertools.islice(counted, number - 1, None), None)
        if found is not None:
            return found[0]
        count = next(counter)
    else:
        is_parquet = format_of(file) == ".parquet"
        line = _read_row(file, number) if is_parquet else _read_line(file, number)
        if line is not None:
            return line
        with open_lines(file) as lines:
            count = sum(1 for _ in lines)
    name = "stdin" if str(file) == "-" else str(file)
    rows = "1 row" if count == 1 else f"{count:,} rows"
    raise InputError(
        f"{name} has {rows}, so there is no row {number:,}",
        hint=f"--row takes 1 to {count}" if count else "the input is empty",
    )


def _read_line(file: Path, number: int) -> bytes | None:
    try:
        line: bytes | None = subl_core.read_line(file, number - 1)
    except subl_core.FilterError as error:
        raise InputError(str(error), hint="repair the file, or give another one") from error
    return line


def _read_row(file: Path, number: int) -> bytes | None:
    for frame in read_frames(file):
        if number <= len(frame):
            return json_line(frame.row(number - 1, named=True))
        number -= len(frame)
    return None


def reason_value(verdict: Mapping[str, Any], reason: Mapping[str, Any]) -> bytes | None:
    """The UTF-8 text that a reason's `span` refers to; None for a reason without a field."""
    texts: list[str] = verdict["values"].get(reason["field"], [])
    position = reason.get("value") or 0
    return texts[position].encode() if position < len(texts) else None


@dataclass(frozen=True)
class Setting:
    """A key of a rule, its value, whether the file gave it, and what it means."""

    key: str
    value: Any
    given: bool
    meaning: str


@dataclass(frozen=True)
class RuleInWords:
    """What a rule does: the documentation of its kind, with its values."""

    name: str
    kind: str
    does: str
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...]
    """What it does that its author may not expect."""


def explain_rules(spec: FilterSpec) -> list[RuleInWords]:
    """Every rule in words, from the documentation and the values of its model."""
    return [
        RuleInWords(
            rule.name,
            rule.kind,
            documentation(rule),
            settings(rule, {"name", "kind"}),
            tuple(remarks),
        )
        for rule, remarks in zip(spec.rules, spec.plan().remarks, strict=True)
    ]


def documentation(model: BaseModel) -> str:
    """The first paragraph of what its class says of itself."""
    text = inspect.getdoc(type(model)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def settings(model: BaseModel, without: set[str] = frozenset()) -> tuple[Setting, ...]:  # type: ignore[assignment]
    """All keys of a model with their values as they are written down."""
    values = model.model_dump(mode="json")
    return tuple(
        Setting(key, values[key], key in model.model_fields_set, field.description or "")
        for key, field in type(model).model_fields.items()
        if key not in without
    )
