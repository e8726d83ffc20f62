"""docs/train.md: every key of `[train]` with type, default and meaning, as the code has them."""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from subl.train.plan import LoraSpec, ProbeSpec, TrainSpec

PAGE = Path(__file__).parents[2] / "docs" / "train.md"
TABLES: dict[str, type[BaseModel]] = {
    "[train]": TrainSpec,
    "[train.lora]": LoraSpec,
    "[train.probe]": ProbeSpec,
}
WORDS = {int: "integer", float: "number", bool: "true or false", str: "text"}
LIMITS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def type_of(annotation: Any, field: FieldInfo) -> str:
    parts = [each for each in get_args(annotation) if each is not NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{json.dumps(each)}`" for each in parts)
    if get_origin(annotation) is tuple:
        return "list of texts"
    if NoneType in get_args(annotation):
        return type_of(parts[0], field)
    if issubclass(annotation, BaseModel):
        return "table"
    limits = [
        f"{sign} {getattr(each, name):g}"
        for each in field.metadata
        for name, sign in LIMITS.items()
        if getattr(each, name, None) is not None
    ]
    return " ".join([WORDS[annotation], *([", ".join(limits)] if limits else [])])


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is None:
        return ""
    if isinstance(field.default, tuple) and len(field.default) > 8:
        return f"the paper's {len(field.default)}"
    return f"`{json.dumps(field.default)}`"


def table_of(model: type[BaseModel]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        assert field.description, f"{name} has no description"
        cells = [f"`{name}`", type_of(field.annotation, field), default_of(field)]
        lines.append("| " + " | ".join([*cells, field.description.replace("|", "\\|")]) + " |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("title", TABLES)
def test_the_page_has_every_key_as_the_code_has_it(title: str) -> None:
    _, found, part = PAGE.read_text(encoding="utf-8").partition(f"\n## `{title}`\n")
    assert found
    part = part.partition("\n## ")[0]
    table = "".join(line + "\n" for line in part.splitlines() if line.startswith("|"))
    assert table == table_of(TABLES[title]), f"out of date; it is now:\n{table_of(TABLES[title])}"
