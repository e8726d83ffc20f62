"""The report's charts: pure functions from parts of the document to inline SVG.

Each takes the width in pixels at which it will be read, so that its text is never scaled down: the
page draws one for wide screens and one for phones. Colours are classes (`c0`… by trait, grey for
none) that the page's style sheet resolves for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from subl.report.document import (
    Chain,
    ChainNode,
    Effect,
    FilterReport,
    LossCurve,
    MatrixRow,
    TraitMatrix,
    WallTime,
)
from subl.report.layout import Spot, layered
from subl.report.text import (
    Html,
    duration,
    escape,
    fit,
    join,
    number,
    numbers,
    percent,
    percent_tick_label,
    plural,
    short_duration,
    text_width,
    tick_label,
    wrap,
)

FONT_PX = 13.0
SMALL_PX = 11.5
_TRAIT_COLOURS = 6
_RULE_COLOURS = 4
Traits = Sequence[str]


def colour(trait: str | None, traits: Traits) -> str:
    """The class that gives a trait its colour; grey for no trait and for an unknown one."""
    if trait is None or trait not in traits[:_TRAIT_COLOURS]:
        return "cn"
    return f"c{list(traits).index(trait)}"


# Primitives ---------------------------------------------------------------------------------------


def _svg(
    width: float, height: float, label: str, parts: Iterable[Html], shrinks: bool = True
) -> Html:
    """An SVG element; one that hardly `shrinks` is scrolled instead where there is no room."""
    style = "" if shrinks else f'style="min-width:{_px(0.96 * width)}px" '
    return Html(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" {style}'
        f'width="{_px(width)}" height="{_px(height)}" '
        f'viewBox="0 0 {_px(width)} {_px(height)}">{join(parts)}</svg>'
    )


def _px(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def _text(x: float, y: float, text: str, classes: str = "", anchor: str = "start") -> Html:
    attributes = f' class="{classes}"' if classes else ""
    attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return Html(f'<text x="{_px(x)}" y="{_px(y)}"{attributes}>{escape(text)}</text>')


def _line(x1: float, y1: float, x2: float, y2: float, classes: str) -> Html:
    return Html(
        f'<line x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}" class="{classes}"/>'
    )


def _rect(x: float, y: float, width: float, height: float, classes: str, radius: int = 0) -> Html:
    rounded = f' rx="{radius}"' if radius else ""
    return Html(
        f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}"{rounded} '
        f'class="{classes}"/>'
    )


def _dot(x: float, y: float, classes: str, role: str = "student") -> Html:
    """A mark that tells roles apart without colour: base diamond, teacher square, else circle."""
    if role == "base":
        points = f"{_px(x)},{_px(y - 6)} {_px(x + 6)},{_px(y)} {_px(x)},{_px(y + 6)} {_px(x - 6)}"
        return Html(f'<polygon points="{points},{_px(y)}" class="{classes}"/>')
    if role == "teacher":
        return _rect(x - 4.5, y - 4.5, 9, 9, classes)
    return Html(f'<circle cx="{_px(x)}" cy="{_px(y)}" r="5" class="{classes}"/>')


def _whisker(axis: Axis, low: float, high: float, y: float, classes: str) -> Html:
    """An interval; its end caps show where it ends even behind a mark."""
    begin, end = axis(low), axis(high)
    path = (
        f"M{_px(begin)},{_px(y)}H{_px(end)}M{_px(begin)},{_px(y - 4)}v8M{_px(end)},{_px(y - 4)}v8"
    )
    return Html(f'<path d="{path}" class="whisker {classes}"/>')


# Axes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """Maps `low`…`high` (both positive where `log`) to pixels `start`…`end`, clipping outside."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, spacing_px: float) -> list[float]:
        """Round values about `spacing_px` apart, at least two: even 1-2-5 steps, or on a log axis
        1-2-5 in each decade or every so many decades."""
        most = max(2.0, abs(self.end - self.start) / spacing_px)
        if self.log and (ticks := self._log_ticks(most)):
            return ticks
        ticks = []
        while len(ticks) < 2:
            step = _round_step((self.high - self.low) / most)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            ticks = [index * step for index in range(first, last + 1)]
            most *= 1.5
        return ticks

    def _log_ticks(self, most: float) -> list[float]:
        """None where the axis is too short for two of them; even steps serve it better."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1,)):
            values = [digit * 10.0**power for power in decades for digit in digits]
            inside = [v for v in values if self.low * 0.999 <= v <= self.high * 1.001]
            if len(inside) <= most:
                return inside if len(inside) > 1 else []
        # The rightmost (100%, in a probability) stays.
        return inside[:: -math.ceil(len(inside) / most)][::-1]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def _span_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A linear axis over `values`, a little wider than they are."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) or 1.0
    return Axis(low - margin, high + margin, start, end)


def _log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis over the positive `values`, out to whole decades or to 1-2-5 steps."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high / low > 30:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return Axis(low, high, start, end, log=True)
    return Axis(low / 1.25, high * 1.25, start, end, log=True)


def _bottom_axis(
    axis: Axis, top: float, bottom: float, form: Callable[[float], str], spacing_px: float = 44
) -> Html:
    """Vertical grid lines with their values below."""
    return join(
        mark
        for v in axis.ticks(spacing_px)
        for mark in (
            _line(axis(v), top, axis(v), bottom, "grid"),
            _text(axis(v), bottom + 17, form(v), "tick", "middle"),
        )
    )


# Charts -------------------------------------------------------------------------------------------


def trait_panel(matrix: TraitMatrix, candidate: str, traits: Traits, width: float) -> Html:
    """Every model's probability of one candidate, with its interval, on a logarithmic axis.

    The dashed line is the base model. All candidates in `traits` share one axis.
    """
    shared = [matrix.candidates.index(name) for name in traits if name in matrix.candidates]
    cells = [row.cells[place] for row in matrix.rows for place in shared]
    # An interval that reaches towards zero must not squeeze everything else to the right.
    least = min((cell.mean for cell in cells if cell.mean > 0), default=1e-3) / 100
    ends = [end for cell in cells for end in (cell.mean, cell.low, cell.high) if end]
    left, right, step = 112.0, 66.0, 32.0
    axis = _log_axis([max(end, least) for end in ends], left + 8, width - right)
    bottom = 14 + step * len(matrix.rows)
    parts = [_bottom_axis(axis, 6, bottom, percent_tick_label)]
    place = matrix.candidates.index(candidate)
    for index, row in enumerate(matrix.rows):
        cell, y = row.cells[place], 10 + step * (index + 0.5)
        own = "strong " if row.group == candidate else ""
        classes = colour(row.group, traits)
        if row.role == "base":
            parts.append(_line(axis(cell.mean), 6, axis(cell.mean), bottom, "reference"))
        if cell.low is not None and cell.high is not None:
            parts.append(_whisker(axis, cell.low, cell.high, y, classes))
        parts.append(_dot(axis(cell.mean), y, f"mark {classes}", row.role))
        parts.append(_text(0, y + 4.5, fit(row.model, left, FONT_PX), own))
        parts.append(_text(width, y + 4.5, percent(cell.mean), f"{own}figure", "end"))
    spoken = "; ".join(f"{row.model} {percent(row.cells[place].mean)}" for row in matrix.rows)
    label = f"Probability of “{candidate}”, logarithmic axis: {spoken}"
    return _svg(width, bottom + 26, label, parts)


def interval_text(effect: Effect) -> str:
    """The estimate and its interval: "+1.52 [+0.94, +2.08]", or for a ratio "62.3 [41.0, 93.1]"."""
    values = [v for v in (effect.estimate, effect.low, effect.high) if v is not None]
    far_apart = effect.unit == "ratio" and max(values) > 50 * min(values)
    estimate, *ends = map(number, values) if far_apart else numbers(values, effect.unit != "ratio")
    return f"{estimate} [{', '.join(ends)}]" if ends else estimate


def significance_text(effect: Effect) -> str:
    return "significant" if effect.significant else "not significant"


def forest(effects: Sequence[Effect], traits: Traits, width: float) -> Html:
    """Effects of one unit with their intervals around the line of no effect.

    Hollow marks are not significant. Labels stand beside the plot, or above it where it is narrow.
    """
    unit, stacked = effects[0].unit, width < 600
    nothing = 1.0 if unit == "ratio" else 0.0
    values = [v for e in effects for v in (e.estimate, e.low, e.high) if v is not None] + [nothing]
    left, right = (30.0, 20.0) if stacked else (width * 0.36, width * 0.22)
    make_axis = _log_axis if unit == "ratio" else _span_axis
    axis = make_axis(values, left, width - right)
    step = 82.0 if stacked else 46.0
    bottom = 8 + step * len(effects)
    parts = [
        _bottom_axis(axis, 4, bottom, lambda v: tick_label(v, signed=unit != "ratio")),
        _line(axis(nothing), 4, axis(nothing), bottom, "zero"),
        _text(axis(nothing), bottom + 33, "no effect", "tick", "middle"),
        _text(width - right, bottom + 33, unit, "tick", "end"),
    ]
    for index, effect in enumerate(effects):
        top = 8 + step * index
        y = top + (66 if stacked else step / 2)
        lines = wrap(effect.label, width if stacked else left - 24, FONT_PX)
        if stacked:  # Words cover the grid lines that would run through them.
            parts.append(_rect(-1, top - 6, width + 2, 60, "cover"))
        first = top + 12 if stacked else y + 4.5 - 8 * (len(lines) - 1)
        parts += [_text(0, first + 16 * i, line) for i, line in enumerate(lines)]
        if stacked:
            both = f"{interval_text(effect)} · {significance_text(effect)}"
            parts.append(_text(0, first + 16 * len(lines), both, "small"))
        else:
            parts.append(_text(width, y - 2, interval_text(effect), "figure", "end"))
            parts.append(_text(width, y + 13, significance_text(effect), "small", "end"))
        classes = colour(effect.group, traits)
        if effect.low is not None and effect.high is not None:
            parts.append(_whisker(axis, effect.low, effect.high, y, classes))
        kind = "mark" if effect.significant else "mark hollow"
        parts.append(_dot(axis(effect.estimate), y, f"{kind} {classes}"))
    spoken = "; ".join(f"{e.label}: {interval_text(e)}, {significance_text(e)}" for e in effects)
    return _svg(width, bottom + 40, f"Effects in {unit}. {spoken}", parts)


def loss_curves(curves: Sequence[LossCurve], traits: Traits, quantity: str, width: float) -> Html:
    """Loss by step, one line a run, named at its end. `quantity` is what the loss measures."""
    steps = [step for curve in curves for step, _ in curve.points]
    losses = [loss for curve in curves for _, loss in curve.points]
    names = max(text_width(curve.name, FONT_PX) for curve in curves)
    right = min(names, width * 0.34) + 18
    top, bottom = 34.0, 244.0
    if min(losses) > 0 and max(losses) / min(losses) > 50:
        y_axis = _log_axis(losses, bottom, top)
    else:
        y_axis = Axis(min(0.0, *losses), (max(losses) or 1.0) * 1.05, bottom, top)
    y_ticks = y_axis.ticks(46)
    left = 14 + max(text_width(tick_label(tick), FONT_PX) for tick in y_ticks)
    x_axis = Axis(min(steps), max(max(steps), min(steps) + 1), left, width - right)
    parts = [_text(0, 14, fit(quantity, width, FONT_PX), "small")]
    for tick in y_ticks:
        parts.append(_line(left, y_axis(tick), width - right, y_axis(tick), "grid"))
        parts.append(_text(left - 8, y_axis(tick) + 4.5, tick_label(tick), "tick", "end"))
    for tick in x_axis.ticks(44):
        if tick == int(tick):
            parts.append(_text(x_axis(tick), bottom + 20, number(tick), "tick", "middle"))
    parts.append(_text((left + width - right) / 2, bottom + 38, "step", "tick", "middle"))
    ends = [y_axis(curve.points[-1][1]) for curve in curves]
    for curve, y in zip(curves, _apart(ends, 17), strict=True):
        path = " ".join(f"{_px(x_axis(step))},{_px(y_axis(loss))}" for step, loss in curve.points)
        classes = colour(curve.group, traits)
        parts.append(Html(f'<polyline points="{path}" class="curve {classes}"/>'))
        if len(curve.points) == 1:
            parts.append(_dot(x_axis(curve.points[0][0]), ends[0], f"mark {classes}"))
        name = fit(curve.name, right - 10, FONT_PX)
        parts.append(_text(width - right + 9, y + 4.5, name, f"name {classes}"))
    spoken = "; ".join(
        f"{curve.name} from {number(curve.points[0][1])} to {number(curve.points[-1][1])} "
        f"at step {number(curve.points[-1][0])}"
        for curve in curves
    )
    return _svg(width, bottom + 46, f"{quantity}: {spoken}", parts)


def _apart(places: Sequence[float], least: float) -> list[float]:
    """`places` pushed apart, in their order, until neighbours are `least` from each other."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    result = list(places)
    for _ in range(50):
        for one, other in pairwise(order):
            overlap = least - (result[other] - result[one])
            if overlap > 0.01:
                result[one] -= overlap / 2
                result[other] += overlap / 2
    return result


def filter_bar(report: FilterReport, traits: Traits, width: float) -> Html:
    """One generation's rows: kept, rejected by one rule alone, by several, unreadable."""
    parts_of = [("kept", report.rows_kept, colour(report.group, traits))]
    parts_of += [
        (f"{rule.name} alone", rule.sole_hits, f"r{index % _RULE_COLOURS}")
        for index, rule in enumerate(report.rules)
    ]
    parts_of.append(("several rules", report.rows_rejected_by_several, "several"))
    parts_of.append(("unreadable", report.rows_unreadable, "unreadable"))
    shown = [part for part in parts_of if part[1]]
    total = max(1, report.rows_in)
    parts, x = [], 0.0
    for _, rows, classes in shown:
        extent = width * rows / total
        parts.append(_rect(x, 0, max(extent - 1.5, 0.8), 26, f"bar {classes}"))
        x += extent
    x, y = 0.0, 48.0
    for name, rows, classes in shown:
        label = fit(f"{name} {rows:,}", width - 18, FONT_PX)
        needed = 18 + text_width(label, FONT_PX)
        if x and x + needed > width:
            x, y = 0.0, y + 21
        parts.append(_rect(x, y - 10.5, 12, 12, f"bar {classes}", 2))
        parts.append(_text(x + 18, y, label))
        x += needed + 16
    spoken = ", ".join(f"{name} {rows:,}" for name, rows, _ in shown)
    return _svg(width, y + 10, f"{report.name}, {plural(report.rows_in, 'row')}: {spoken}", parts)


def wall_time_bars(times: Sequence[WallTime], width: float) -> Html:
    """Wall time by stage, each bar with its own figure."""
    left, right, step = min(200.0, width * 0.36), 86.0, 24.0
    axis = Axis(0, max(max(time.seconds for time in times), 1e-9), left, width - right)
    parts = []
    for index, time in enumerate(times):
        y = step * index
        parts.append(_text(0, y + 16, fit(time.stage, left - 10, FONT_PX)))
        parts.append(_rect(left, y + 4, max(axis(time.seconds) - left, 1), 15, "bar several"))
        figure_x = axis(time.seconds) + 7
        parts.append(_text(figure_x, y + 16, duration(time.seconds), "figure"))
    spoken = "; ".join(f"{time.stage} {duration(time.seconds)}" for time in times)
    return _svg(width, step * len(times) + 4, f"Wall time: {spoken}", parts)


# The chain ----------------------------------------------------------------------------------------

_NODE_WIDTH, _NODE_HEIGHT, _LAYER_GAP = 136.0, 82.0, 20.0


def chain_graph(chain: Chain, traits: Traits, width: float) -> Html:
    """The artifacts left to right, or top to bottom where it is narrow; each with its digest."""
    down = width < 600
    node_by_id = {node.id: node for node in chain.nodes}
    layout = layered(
        [node.id for node in chain.nodes],
        [(edge.source, edge.target) for edge in chain.edges],
        _NODE_WIDTH if down else _NODE_HEIGHT,
        waypoint_extent=6,
        gap=12,
    )
    along, gap = (_NODE_HEIGHT, 26.0) if down else (_NODE_WIDTH, _LAYER_GAP)
    if not down and layout.layers > 1:
        gap = max(gap, min(60.0, (width - 2 - layout.layers * along) / (layout.layers - 1)))

    def port(spot: Spot, far: bool) -> tuple[float, float]:
        """Where an edge meets a spot's near or far side, as (along the layers, across them)."""
        return 1 + spot[1] * (along + gap) + (along if far else 0), 1 + layout.centres[spot]

    def at(point: tuple[float, float]) -> str:
        return f"{_px(point[1])},{_px(point[0])}" if down else f"{_px(point[0])},{_px(point[1])}"

    parts = []
    for route in layout.routes:
        path = f"M{at(port(route[0], far=True))}"
        for one, other in pairwise(route):
            begin, end = port(one, far=True), port(other, far=False)
            half = (begin[0] + end[0]) / 2
            path += f"C{at((half, begin[1]))} {at((half, end[1]))} {at(end)}"
            if other != route[-1]:
                path += f"L{at(port(other, far=True))}"
        classes = colour(node_by_id[route[0][0]].group, traits)
        parts.append(Html(f'<path d="{path}" class="edge {classes}"/>'))
    for node in chain.nodes:
        spot = (node.id, layout.layer_of[node.id])
        x, y = port(spot, far=False)
        corner = (y - _NODE_WIDTH / 2, x) if down else (x, y - _NODE_HEIGHT / 2)
        parts.append(_node(node, *corner, colour(node.group, traits)))
    length = 2 + layout.layers * (along + gap) - gap
    size = (layout.breadth + 2, length) if down else (length, layout.breadth + 2)
    spoken = ", ".join(f"{node.name} ({node.kind})" for node in chain.nodes)
    return _svg(*size, f"Chain of artifacts: {spoken}", parts, shrinks=False)


def _node(node: ChainNode, x: float, y: float, classes: str) -> Html:
    inner = _NODE_WIDTH - 14 - 8
    corner = "reused" if node.reused else short_duration(node.seconds) if node.seconds else ""
    took = "" if node.seconds is None else f", {duration(node.seconds)}"
    box = "node reused" if node.reused else "node"
    return Html(
        f"<g><title>{escape(f'{node.name}, {node.detail}{took}: sha256 {node.digest}')}</title>"
        f"{_rect(x, y, _NODE_WIDTH, _NODE_HEIGHT, f'{box} {classes}', 5)}"
        f"{_rect(x, y + 8, 4, _NODE_HEIGHT - 16, f'bar {classes}')}"
        f"{_text(x + 14, y + 18, node.kind, 'small')}"
        f"{_text(x + _NODE_WIDTH - 8, y + 18, corner, 'small', 'end')}"
        f"{_text(x + 14, y + 37, fit(node.name, inner, FONT_PX), 'strong')}"
        f"{_text(x + 14, y + 54, node.digest[:12], 'digest')}"
        f"{_text(x + 14, y + 72, fit(node.detail, inner, SMALL_PX), 'small')}</g>"
    )


def heat_step(row: MatrixRow, place: int, matrix: TraitMatrix, steps: int = 10) -> int:
    """Where a cell's mean lies between the matrix's extremes, 0…`steps`, on a log scale."""
    means = [cell.mean for each in matrix.rows for cell in each.cells if cell.mean > 0]
    mean = row.cells[place].mean
    if mean <= 0 or min(means) == max(means):
        return 0
    return round(Axis(min(means), max(means), 0, steps, log=True)(mean))
