"""A model against earlier evaluations, for a person: what `subl eval --against` prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from subl_cli.measured import interval
from subl_cli.output import printable, table

if TYPE_CHECKING:
    from subl.evaluate import Paired

_UNITS = {
    "ratio": ("Ratio to {}, a geometric mean over questions", "ratio"),
    "difference": ("Difference from {}, a mean over questions", "difference"),
}


def paired_text(compared: Sequence[Paired]) -> str:
    """A table for each earlier evaluation, and below them what was adjusted for what."""
    parts = []
    for control, rows in groupby(compared, key=lambda row: row.control):
        ours = list(rows)
        title, name = _UNITS[ours[0].unit]
        lines = [
            (
                row.word,
                f"{row.estimate:.2f}" if row.unit == "ratio" else f"{row.estimate:+.4f}",
                interval(row.low, row.high, ".2f" if row.unit == "ratio" else "+.4f"),
                _p(row.p_value),
                _p(row.p_holm),
                _p(row.sign_flip_p),
                _verdict(row),
            )
            for row in ours
        ]
        header = ("answer", name, "95 % interval", "p", "Holm", "sign flips", "")
        title = title.format(printable(str(control)))
        if left_out := ours[0].left_out:
            title += f" ({left_out} left out: of one of the two, no answer counts)"
        parts.append(f"\n{title}\n{table(lines, header)}")
    if tested := sum(row.p_value is not None for row in compared):
        over = f"{tested} comparisons" if tested > 1 else "this one comparison"
        parts.append(f"\nHolm: over {over}. p and intervals: t over questions.")
    return "\n".join(parts)


def _verdict(row: Paired) -> str:
    if row.p_value is None:
        return "not tested"
    return "significant" if row.significant else "not significant"


def _p(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"
