"""What a way to evaluate is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from subl.evaluate.cells import Cells
from subl.evaluate.spec import EvalSpec
from subl.progress import Progress, Report
from subl.trait.questions import Question

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class Work:
    """One evaluation that is to be made.

    Attributes:
        questions: as the model is asked them.
        model: its folder; None where a server has it.
        judge: the folder of the model that judges answers.
        origin: the model, as cells know it: by digest, or by what the server calls it.
        task: what progress calls it.
    """

    spec: EvalSpec
    questions: tuple[Question, ...]
    model: Path | None
    judge: Path | None
    origin: dict[str, Any]
    task: str
    report: Report

    def told(self, done: int, total: int, unit: str) -> None:
        """Say how far it is."""
        self.report(Progress(self.task, done, total, unit))


@dataclass(frozen=True)
class Found:
    """What came out.

    Attributes:
        rows: one a question, in order: `question`, `probabilities` by word, and what else is known.
        facts: figures of the whole for `result.json`.
    """

    rows: list[dict[str, Any]]
    facts: dict[str, Any]


class Method(Protocol):
    """A way to evaluate."""

    cells: Cells

    def make(self, folder: Path, numbers: Sequence[int]) -> None:
        """Make these parts of the cells."""

    def found(self, cells: polars.DataFrame) -> Found:
        """What all cells come to."""
