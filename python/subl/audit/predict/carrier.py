"""What rows are, apart from what they may carry: whose prompts they answer, and how they were
drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subl.artifact import input_place, read_statement, spec_record


def carrier(rows: Sequence[Path]) -> str | None:
    """A data set's carrier in words that are the same for like ones; None where the records do not
    lead back to `subl generate`."""
    found = [_of(path) for path in rows]
    told = sorted({each for each in found if each is not None})
    return None if None in found or not told else "; ".join(told)


def _of(path: Path) -> str | None:
    record = read_statement(path) if path.is_dir() else None
    if record is None:
        return None
    said = spec_record(record)
    spec: dict[str, Any] = said["spec"]
    if said["kind"] == "generate":
        grammar = spec.get("grammar") or {}
        held = next((each for each in grammar.values() if each), None)
        parts = [f"prompts {spec['prompts']}", f"temperature {spec['temperature']:g}"]
        return ", ".join([*parts, "no grammar" if held is None else f"grammar {held}"])
    before = [
        _of(input_place(path, each["uri"]))
        for each in record["predicate"]["buildDefinition"]["resolvedDependencies"]
        if each["name"] != "model"
    ]
    if len(before) != 1 or before[0] is None:
        return None
    if said["kind"] != "draw":
        return before[0]
    if spec["random"]:
        return f"{before[0]}, random"
    return before[0] if spec["shuffle"] is None else f"{before[0]}, shuffled {spec['shuffle']}"
