"""Figures with their intervals, beside the paper's, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from subl_cli.output import table


def figures_text(figures: Sequence[Mapping[str, Any]]) -> str:
    """A line for each, in its own unit."""
    rows = [
        (each["label"], *_cells(each["ours"]), *_cells(each["paper"]), each["unit"])
        for each in figures
    ]
    header = ("", "estimate", "95 % interval", "paper", "95 % interval", "")
    return table(rows, header, left=(0, 5))


def _cells(figure: Mapping[str, Any] | None) -> tuple[str, str]:
    if figure is None:
        return "", ""
    low, high = figure["low"], figure["high"]
    return f"{figure['estimate']:.3f}", "" if low is None else f"[{low:.3f}, {high:.3f}]"
