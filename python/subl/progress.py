"""How long work tells its caller where it stands.

Stages take an optional `Report`, a plain callable; who calls decides whether that becomes a bar,
lines or JSON. Stages never print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """`done` of `total` `unit`s of the work `task`; `total` is None where nobody knows.

    `note` is for a person, `figures` (`rows`, `kept`) for a program. `skipped` of `done` was done
    by an earlier call, so it says nothing about the pace. `run_seconds_left` is an estimate for the
    whole that this work is a part of.
    """

    task: str
    done: int
    total: int | None
    unit: str
    note: str = ""
    figures: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    run_seconds_left: float | None = None


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The report of a caller who does not want one."""
