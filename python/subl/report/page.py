"""The page: a `ReportDocument` in, one self-contained HTML text out.

A section is a template of its own and is left out where nothing comes of it. Whatever a template
prints is made visible and escaped, unless it is `Html`. The page runs no script and its policy
forbids loading anything.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from subl.extras import require
from subl.report import chain, figures, panels, races, text, vega
from subl.report.document import Effect, ReportDocument, ScanReport, TraitMatrix
from subl.report.text import Html

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
SECTIONS = {
    "result": "What came out",
    "scan": "What the rows carry",
    "kin": "Who wrote and who learned",
    "limits": "What this run can and cannot show",
    "matrix": "Every model, every candidate",
    "chain": "How it was made",
    "filter": "What the filter did",
    "training": "Training",
    "protocol": "What differs from the published protocol",
    "provenance": "Provenance",
}
_WIDE_PX, _PANEL_PX, _PHONE_PX = 936, 452, 328
_HEAT_STEPS = 10
_TOKEN_SHADE = 55
"""Percent of colour at most: letters stay legible."""
_MOST_MARKS, _MOST_ARMS = 150, 24
_MOST_MODELS, _MOST_EFFECTS = 36, 18
"""Of a figure, as many rows as a printed page has room for."""
_COLUMNS = 10
"""Of a table of candidates, as many as paper has room for."""


Part = TypeVar("Part")


class Drawn(NamedTuple):
    """A figure for wide screens and for phones."""

    wide: Html
    phone: Html


def render(document: ReportDocument) -> str:
    """The whole page, UTF-8 text; the same document gives the same text.

    Without vl-convert it has tables, and says where its figures would be.

    Raises:
        DependencyError: jinja2 is not installed.
    """
    environment = _environment()
    values = _values(document)
    bodies = {
        name: Html(environment.get_template(f"{name}.html").render(values)) for name in SECTIONS
    }
    shown = [(name, SECTIONS[name], body) for name, body in bodies.items() if body.strip()]
    return environment.get_template("page.html").render(
        values, sections=shown, policy=Html(POLICY), island=_island(document)
    )


@cache
def _environment() -> Environment:
    require("report", "jinja2", what="the report")
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=lambda value: value if hasattr(value, "__html__") else text.visible(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for filter in (text.duration, text.fit, text.marked, text.number, text.percent, text.plural,
                   text.short_duration, figures.interval_text, panels.share_text, races.mark_text,
                   _signed):  # fmt: skip
        environment.filters[filter.__name__.lstrip("_")] = filter
    return environment


def _values(document: ReportDocument) -> dict[str, Any]:
    """What the templates print: the document, and what is drawn of it."""
    groups = document.groups
    contrasts: dict[str, dict[str, list[Effect]]] = {}
    for effect in document.effects:
        contrasts.setdefault(effect.contrast, {}).setdefault(effect.unit, []).append(effect)
    return {
        "document": document,
        "colour": partial(vega.colour, groups=groups),
        "panels": [_panels(matrix, groups) for matrix in document.matrices],
        "contrasts": [
            (contrast, unit, [
                _drawn(partial(figures.forest, part, groups, of=effects))
                for part in _parts(effects, _MOST_EFFECTS)
            ])
            for contrast, units in contrasts.items()
            for unit, effects in units.items()
        ],
        "bars": [
            (panel, _drawn(partial(panels.share_bars, panel)), _key(panel.groups))
            for panel in document.bars
        ],
        "curves": [
            (panel, _drawn(partial(panels.log_curves, panel)), _key(panel.groups))
            for panel in document.curves
        ],
        "doses": [
            (panel, _drawn(partial(panels.dose_lines, panel, groups))) for panel in document.doses
        ],
        "questions": [
            (panel, _drawn(partial(panels.question_dots, panel, groups)),
             zip(panel.arms, figures.SHAPES, strict=False))
            for panel in document.questions
        ],
        "scans": [_scan(scan) for scan in document.scans],
        "token_shade": _token_shade,
        "most_arms": _MOST_ARMS,
        "shade": _shades(document),
        "chains": [chain.draw(document.chain, width) for width in (_WIDE_PX, _PHONE_PX)],
        "stacked": len(document.chain.nodes) > chain.MOST_BOXES,
        "made": {edge.target for edge in document.chain.edges},
        "filters": document.filters
        and _drawn(partial(figures.filter_bars, document.filters, groups)),
        "legend": _legend(document),
        "losses": [
            (panel, _drawn(partial(figures.loss_curves, panel, groups)))
            for panel in document.losses
        ],
        "most_named": figures.MOST_NAMED_CURVES,
        "times": document.wall_times and _drawn(
            partial(figures.wall_time_bars, document.wall_times)
        ),
        "most_stages": figures.MOST_STAGES,
    }  # fmt: skip


def _scan(scan: ScanReport) -> tuple[Any, ...]:
    """A scan, its groups, and its figures."""
    groups, bets = scan.groups, [line.name for line in scan.evidence]
    ahead = sorted(scan.candidates, key=lambda each: -each.value.mean)[: races.MOST_MARKS]
    gain = "Sum of nats over the base"
    return (
        scan,
        groups,
        _drawn(partial(races.tracks, scan.race, groups, gain)),
        _drawn(partial(races.tracks, scan.evidence, bets, "Log e-value, nats", bar=scan.bar)),
        _drawn(partial(races.nats_a_row, ahead, groups)),
        scan.leads and _drawn(partial(races.nats_a_row, scan.leads, groups)),
    )


def _token_shade(scan: ScanReport, nats: float) -> int:
    """How dark a token is, in percent: its share of the largest gain or loss that is shown."""
    most = max(abs(token.nats) for row in scan.rows for token in row.tokens)
    return round(_TOKEN_SHADE * abs(nats) / most) if most else 0


def _signed(value: float) -> str:
    return text.number(value, signed=True)


def _panels(matrix: TraitMatrix, groups: Sequence[str]) -> dict[str, Any]:
    """An evaluation's figures: how likely each model is to give each group as its answer; of too
    many models and groups, how likely it is to give its own."""
    words = figures.drawn_words(matrix, groups)
    crowded = len(words) * len(matrix.rows) > _MOST_MARKS and words[0] in groups
    taught = [row for row in matrix.rows if row.group in words] if crowded else []
    return {
        "matrix": matrix,
        "own": [
            _drawn(partial(figures.own_panel, matrix, part, groups))
            for part in _parts(taught, _MOST_MODELS)
        ],
        "drawn": [
            (
                name,
                _drawn(
                    partial(figures.trait_panel, matrix, name, groups),
                    _WIDE_PX if len(words) == 1 else _PANEL_PX,
                ),
            )
            for name in ([] if crowded else words)
        ],
        "log": figures.logarithmic(matrix, words),
        "marks": figures.shapes(matrix),
        "references": [row.model for row in figures.references(matrix)] if words else [],
        "columns": [
            range(first, min(first + _COLUMNS, len(matrix.candidates)))
            for first in range(0, len(matrix.candidates), _COLUMNS)
        ],
    }


def _parts(rows: Sequence[Part], most: int) -> list[Sequence[Part]]:
    return [rows[first : first + most] for first in range(0, len(rows), most)]


def _drawn(figure: Callable[[float], vega.Figure], wide_px: int = _WIDE_PX) -> Drawn | None:
    """None where vl-convert is not installed."""
    try:
        return Drawn(vega.svg(figure(wide_px)), vega.svg(figure(_PHONE_PX)))
    except ImportError:
        return None


def _key(groups: Sequence[str]) -> list[tuple[str, str]]:
    """A panel's own groups and their colours."""
    return [(group, vega.colour(group, groups)) for group in groups]


def _legend(document: ReportDocument) -> list[tuple[str, int, list[str]]]:
    """What the colours of the filters' figure mean: (name, rows of all filters, its colours)."""
    parts = [part for parts in figures.filter_parts(document.filters, document.groups)
             for part in parts if part[1]]  # fmt: skip
    rows = Counter[str]()
    for name, count, _ in parts:
        rows[name] += count
    paints = {name: list(dict.fromkeys(p for n, _, p in parts if n == name)) for name in rows}
    return [(name, count, paints[name]) for name, count in rows.items()]


def _shades(document: ReportDocument) -> Callable[[float], int]:
    """How dark a cell of the matrix is, in percent: where its mean lies, on a log scale."""
    rows = [row for matrix in document.matrices for row in matrix.rows]
    means = [cell.mean for row in rows for cell in row.cells if cell.mean > 0]
    low, high = min(means, default=1.0), max(means, default=1.0)

    def shade(mean: float) -> int:
        if mean <= 0 or low == high:
            return 0
        share = math.log(mean / low) / math.log(high / low)
        return 9 * round(_HEAT_STEPS * share)

    return shade


def _island(document: ReportDocument) -> Html:
    """The document as JSON that no HTML parser can leave early."""
    data = json.dumps(document.model_dump(mode="json"), ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Html(data)
