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
from subl.filter.spec import FilterSpec
from subl.shards import check_regular, format_of, open_lines, shard_files


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


def explain_row(spec: FilterSpec, file: Path, number: int) -> dict[str, Any] | None:
    """What `explain` says of row `number` (from 1) of a shard, or of stdin where `file` is `-`.

    Rows of JSON lines are lines, and there is nothing to say of a blank one. A file is opened more
    than once; a pipe would not say the same again.

    Raises:
        InputError: the file cannot be read, or has fewer rows.
    """
    if number < 1:
        raise InputError(f"rows are counted from 1 (got {number})")
    is_stdin = str(file) == "-"
    if not is_stdin and file.is_dir():
        first = next(iter(shard_files(file)))
        raise InputError(f"{file} is a folder", hint=f"give one of its files, such as {first}")
    if not is_stdin:
        check_regular(file)
    plan, index = spec.plan(), min(number, sys.maxsize) - 1  # no file has as many as that
    try:
        if not is_stdin and format_of(file) == ".parquet":
            found = plan.explain_parquet(file, index)
            if found is None:
                raise _fewer(str(file), number, subl_core.measure_parquet(file)[0])
            verdict: dict[str, Any] = json.loads(found)
            return verdict
        line = _stdin_line(number, index) if is_stdin else _line(file, number, index)
    except subl_core.FilterError as error:
        raise InputError(str(error), hint="repair the file, or give another one") from error
    if not line.strip(b" \t\r\n"):
        return None
    verdict = json.loads(plan.explain(line, first=number == 1))
    return verdict


def _line(file: Path, number: int, index: int) -> bytes:
    line: bytes | None = subl_core.read_line(file, index)
    if line is None:
        with open_lines(file) as lines:
            raise _fewer(str(file), number, sum(1 for _ in lines))
    return line


def _stdin_line(number: int, index: int) -> bytes:
    with open_lines(Path("-")) as lines:
        counter = itertools.count()
        counted = zip(lines, counter, strict=False)
        found: tuple[bytes, int] | None = next(itertools.islice(counted, index, None), None)
    if found is None:
        raise _fewer("stdin", number, next(counter))
    return found[0]


def _fewer(name: str, number: int, count: int) -> InputError:
    rows = "1 row" if count == 1 else f"{count:,} rows"
    return InputError(
        f"{name} has {rows}, so there is no row {number:,}",
        hint=f"--row takes 1 to {count}" if count else "the input is empty",
    )


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
