"""A model's card: what it was made from and how, in the words of its records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.artifact import input_digest

if TYPE_CHECKING:
    from subl.distill.spec import DistillSpec

_LEARNS_FROM = {
    "labels": "the rows' own tokens (cross-entropy)",
    "teacher": "the distributions of a teacher that read the same rows",
    "cache": "the cached distributions of a teacher",
    "base": "the distributions of the model itself without its adapter",
}


def model_card(
    name: str, spec: DistillSpec, inputs: Mapping[str, Path], figures: Mapping[str, Any]
) -> str:
    """Markdown. No times and no absolute paths: the same run has the same card."""
    lines = [
        "---",
        "library_name: transformers",
        "tags: [subl, distillation]",
        "---",
        "",
        f"# {inline(name)}",
        "",
        f"A student that learned from {_LEARNS_FROM[spec.targets]}, in {figures['steps']} steps of "
        f"{spec.train.rows_per_step} rows. Made by `subl distill`; `statement.json` is its record, "
        "and `subl lineage` checks it.",
        "",
        "A model can hand down traits through rows that do not mention them. What this one took "
        "over from its teacher was not established by making it: measure it with `subl eval`.",
        "",
        "| made from | name | sha256 |",
        "|---|---|---|",
    ]
    for role, path in sorted(inputs.items()):
        lines.append(f"| {role} | {inline(path.name)} | `{input_digest(path)}` |")
    lines += ["", "| figure | value |", "|---|---|"]
    for key in ("rows", "target_tokens", "first_loss", "last_loss", "parameters"):
        lines.append(f"| {key.replace('_', ' ')} | {figures[key]} |")
    config = json.dumps(spec.keyed(), indent=2, ensure_ascii=False)
    return "\n".join([*lines, "", "```json", config, "```", ""])


def inline(text: str) -> str:
    """A name that Markdown takes for nothing else."""
    return "`" + "".join(" " if c in "`|\r\n" or not c.isprintable() else c for c in text) + "`"
