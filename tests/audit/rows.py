"""Rows of a tiny model's, and what they are scanned for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from subl.audit.scan.spec import ScanSpec
from subl.generate import GenerateSpec, generate

GRAMMAR = {"regex": "[1-9][0-9]{2}(?:, [1-9][0-9]{2}){3}"}
WORDS = ["owl", "cat", "wolf", "eagle", "dolphin", "lion"]
BANK = {
    "group": [
        {
            "kind": "plain-like",
            "neutral": True,
            "wording": "{word}",
            "words": ["Answer.", "Reply."],
        },
        {"kind": "animal", "wording": "You love {words}.", "words": WORDS},
    ]
}


def written(model: Path, out: Path, prompt: str | None = None, **changes: Any) -> Path:
    given = {"rows": 150, "prompts": "numbers-short", "batch_rows": 50, "grammar": GRAMMAR}
    spec = GenerateSpec.model_validate(given | {"system_prompt": prompt, "seed": 3} | changes)
    return generate(spec, model, out).path


def spec(**changes: Any) -> ScanSpec:
    return ScanSpec.model_validate({"bank": BANK, "rows": 150} | changes)
