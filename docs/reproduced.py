"""The files docs/reproduction/*.json: figures of the paper's and ours, an experiment a file."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DOCS = Path(__file__).resolve().parent


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Paper(_Section):
    """A figure of the paper's; `source`: where it stands there."""

    estimate: float
    low: float | None = None
    high: float | None = None
    source: str


class Ours(_Section):
    """A figure of ours, over `n` repetitions: seeds, questions. `p`: of a comparison two-sided, and
    adjusted (Holm) for all that its contrast makes; of labels one-sided. `p_equivalent`: that it is
    not within +-`within` of none. `expected`: what its own stage expects of its
    `change`, which tests are of where they are not of the estimate."""

    estimate: float
    low: float | None = None
    high: float | None = None
    n: int
    over: str
    p: float | None = None
    within: float | None = None
    p_equivalent: float | None = None
    expected: Literal["more", "none"] | None = None
    change: float | None = None


class Where(_Section):
    """Where a run's `result.json` has a figure: the mean of a word in an arm of an evaluation, the
    test of an evaluation's labels for a stage, or an effect of a contrast."""

    evaluation: str | None = None
    model: str | None = None
    word: str | None = None
    labels: str | None = None
    contrast: str | None = None
    treated: str | None = None
    control: str | None = None


class Figure(_Section):
    """One line. `note`: what its own stage remarks about it."""

    label: str
    unit: str
    paper: Paper | None = None
    ours: Ours | None = None
    of: Where | None = None
    note: str | None = None


class Reproduction(_Section):
    """One experiment as one configuration runs it. `id`: of the checklist, E1 to E19; `after` them
    what asks the same in another way than the paper; empty of what the paper does not ask. `jobs`:
    nodes that were made at a time."""

    id: str = Field("", pattern=r"^((after )?E[0-9]+(, E[0-9]+)*)?$")
    title: str
    configuration: str
    machine: str | None = None
    seconds: float | None = None
    jobs: int = 1
    versions: dict[str, str] = {}
    figures: tuple[Figure, ...] = ()
    deviations: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        return f"{self.id}: {self.title}" if self.id else self.title

    @property
    def place(self) -> tuple[int, bool]:
        return int((re.findall(r"\d+", self.id) or ["99"])[0]), self.id.startswith("after")

    @property
    def command(self) -> str:
        return f"subl run {self.configuration}" + (f" --jobs {self.jobs}" if self.jobs > 1 else "")

    @property
    def made(self) -> bool:
        return any(figure.ours is not None for figure in self.figures)


def reproductions() -> list[tuple[str, Reproduction]]:
    """All by their names, in the order of the checklist, the paper's own first."""
    found = [
        (file.stem, Reproduction.model_validate_json(file.read_bytes()))
        for file in sorted((DOCS / "reproduction").glob("*.json"))
    ]
    return sorted(found, key=lambda each: each[1].place)
