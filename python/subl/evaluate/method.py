"""What a way to evaluate is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subl.evaluate.spec import EvalSpec
from subl.progress import Report
from subl.trait.questions import Question


@dataclass(frozen=True)
class Work:
    """One evaluation that is to be made.

    Attributes:
        questions: as the model is asked them.
        model: its folder; None where a server has it.
        judge: the folder of the model that judges answers.
        folder: where cells are kept.
        origin: the model, as cells know it: by digest, or by what the server calls it.
        task: what progress calls it.
    """

    spec: EvalSpec
    questions: tuple[Question, ...]
    model: Path | None
    judge: Path | None
    folder: Path
    origin: dict[str, Any]
    task: str
    report: Report


@dataclass(frozen=True)
class Found:
    """What came out.

    Attributes:
        rows: one a question, in order: `question`, `probabilities` by word, and what else is known.
        facts: figures of the whole for `result.json`.
    """

    rows: list[dict[str, Any]]
    facts: dict[str, Any]
