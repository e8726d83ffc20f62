"""The report's figures: what models answer, effects, losses, filters and times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from subl.report import vega
from subl.report.document import (
    Effect,
    FilterReport,
    LossPanel,
    MatrixRow,
    Probability,
    TraitMatrix,
    WallTime,
)
from subl.report.text import duration, fit, number, numbers, percent, plural, wrap

SHAPES = {  # By the name that a caption gives them.
    "diamond": "M0,-1.2L1.2,0L0,1.2L-1.2,0Z",
    "square": "square",
    "circle": "circle",
    "triangle": "triangle-up",
    "cross": "cross",
    "arrow": "triangle-down",
}
MOST_NAMED_CURVES = 10
MOST_STAGES = 40

# Intervals ----------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """One interval. `note` is small print for `value`; what isn't `sure` is drawn hollow. `least`
    to `most` is a grey bar behind it, `tick` a mark on that."""

    label: str
    value: str
    mean: float
    low: float | None
    high: float | None
    colour: str
    note: str = ""
    shape: str = "circle"
    sure: bool = True
    strong: bool = False
    least: float | None = None
    most: float | None = None
    tick: float | None = None


def intervals(
    rows: Sequence[Interval], width: float, domain: vega.Domain, label: str, lines: Sequence[float],
    *, log: bool, step: float, right: float, unit: str = "", nothing: str = "no effect",
    phone: bool = False, labels: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Rows of marks with intervals around vertical `lines`. With a `unit`, the line is that of
    `nothing`. On a `phone` labels and figures stand above each mark, else at its sides, where there
    is room for `labels` of other figures, too."""
    longest = vega.widest([*(row.label for row in rows), *labels])
    left = 30.0 if phone else width * 0.36 if unit else min(width * 0.42, longest + 20)
    texts = [wrap(row.label, width if phone else left - 16, vega.FONT_PX, 3) for row in rows]
    most = 16 * max(map(len, texts))
    step = most + 50 if phone else max(step, most + 8)
    plot, height = width - left - right, step * len(rows)
    data = []
    for place, (row, label_lines) in enumerate(zip(rows, texts, strict=True)):
        top, used = step * place, 16 * len(label_lines)
        y = top + (most + 34 if phone else step / 2)
        data.append(
            row._asdict()
            | {"label": label_lines, "y": y, "top": top - 6, "end": top + most + 22,
               "label_y": top + 10 if phone else y + 8 - used / 2,
               "value_y": y - 7.5 if row.note else y,
               "note": f"{row.value} · {row.note}" if phone else row.note,
               "note_y": top + 10 + used if phone else y + 7.5,
               "fill": row.colour if row.sure else "var(--paper)",
               "edge": "var(--paper)" if row.sure else row.colour,
               "weight": 650 if row.strong else 400}
        )  # fmt: skip
    x = vega.axis(domain, plot, label, log, every=46 if log else 74)
    y_of = {
        name: vega.pixels(name, height) for name in ("y", "top", "label_y", "value_y", "note_y")
    }
    bold: vega.Encoded = {"fontWeight": {"expr": "datum.weight"}}
    line = {"color": "var(--soft)", **({} if unit else {"strokeDash": [3, 4]})}
    layers = [vega.layer("rule", line, x=x | {"datum": value}) | vega.ONCE for value in lines]
    if phone:  # Words cover the grid lines that would run through them.
        across: dict[str, vega.Encoded] = {"x": {"value": -left}, "x2": {"value": plot + right}}
        layers.append(vega.layer("rect", {"fill": "var(--paper)"}, **across, y=y_of["top"],
                             y2={"field": "end"}))  # fmt: skip
    bar = {"ticks": {"size": 8, "thickness": 2, "opacity": 1}, "rule": {"strokeWidth": 2}}
    whisker = vega.layer("errorbar", bar, x=x | {"field": "low"}, x2={"field": "high"}, y=y_of["y"],
                     color=vega.as_is("colour"))  # fmt: skip
    mark = {"size": 120, "strokeWidth": 2, "opacity": 1}
    grey = {"color": "var(--rule)", "strokeWidth": 9}
    tick = {
        "shape": SHAPES["diamond"],
        "filled": True,
        "size": 90,
        "color": "var(--cn)",
        "opacity": 1,
    }
    layers += [
        layer | {"transform": [{"filter": f"isValid(datum.{field})"}]}
        for field, layer in (
            ("least", vega.layer("rule", grey, x=x | {"field": "least"}, x2={"field": "most"},
                                 y=y_of["y"])),
            ("tick", vega.layer("point", tick, x=x | {"field": "tick"}, y=y_of["y"])),
        )
        if any(row[field] is not None for row in data)
    ]  # fmt: skip
    layers += [
        whisker | {"transform": [{"filter": "isValid(datum.low)"}]},
        vega.layer("point", mark, x=x | {"field": "mean"}, y=y_of["y"], shape=vega.as_is("shape"),
               fill=vega.as_is("fill"), stroke=vega.as_is("edge")),
        vega.words("label", -left, y_of["label_y"], **bold),
    ]  # fmt: skip
    if phone:
        layers.append(vega.words("note", -left, y_of["note_y"], **vega.SMALL))
    else:
        layers.append(vega.words("value", plot + right, y_of["value_y"], "right", **bold))
    if unit and not phone:
        layers.append(vega.words("note", plot + right, y_of["note_y"], "right", **vega.SMALL))
    if unit:
        below = {**vega.SMALL, "fontSize": 12}
        layers += [vega.word(nothing, x | {"datum": v}, height + 33, **below) for v in lines]
        layers.append(vega.word(fit(unit, 90, 12), {"value": plot}, height + 33, "right", **below))
    return vega.spec((plot, height), (left, right, 6, 44 if unit else 28), data, layers)


def shapes(matrix: TraitMatrix) -> dict[str, str]:
    """The name of each role's mark, in order of first appearance."""
    roles = dict.fromkeys(row.role for row in matrix.rows)
    return {role: list(SHAPES)[min(place, len(SHAPES) - 1)] for place, role in enumerate(roles)}


def references(matrix: TraitMatrix) -> list[MatrixRow]:
    """What the other rows are compared with: those of the first role, if it has no group."""
    rows = [row for row in matrix.rows if row.role == matrix.rows[0].role]
    return rows if len(rows) <= 3 and not any(row.group for row in rows) else []


def drawn_words(matrix: TraitMatrix, groups: Sequence[str]) -> list[str]:
    """The candidates that figures are about: those that are a group, else those that were asked
    for."""
    own = [name for name in groups if name in matrix.candidates]
    return (own or [name for name in matrix.asked if name in matrix.candidates]) * bool(matrix.rows)


def logarithmic(matrix: TraitMatrix, words: Sequence[str]) -> bool:
    """Whether the axis of these words' figures can be: a share of samples may be 0."""
    return all(cell.mean > 0 for cell in _cells(matrix, words))


def _cells(matrix: TraitMatrix, words: Sequence[str]) -> list[Probability]:
    places = [matrix.candidates.index(name) for name in words]
    return [row.cells[place] for row in matrix.rows for place in places]


def _domain(cells: Sequence[Probability], log: bool) -> vega.Domain:
    """That of all `cells`, which may be in several figures."""
    if not log:
        most = max(end for cell in cells for end in (cell.mean, cell.high or 0.0))
        return 0.0, min(1.0, 1.06 * most) or 1.0
    # An interval that reaches towards zero must not squeeze everything else to the right.
    least = min((cell.mean for cell in cells if cell.mean > 0), default=1e-3) / 100
    return vega.log([max(end, least) for c in cells for end in (c.mean, c.low, c.high) if end])


def trait_panel(
    matrix: TraitMatrix, candidate: str, groups: Sequence[str], width: float
) -> vega.Figure:
    """Every model's probability of one candidate, with its interval, on an axis that all drawn
    candidates share."""
    words = drawn_words(matrix, groups)
    log = logarithmic(matrix, words)
    place, shape = matrix.candidates.index(candidate), shapes(matrix)
    rows = [
        Interval(row.model, percent(cell.mean), cell.mean, cell.low, cell.high,
             vega.colour(row.group, groups), shape=SHAPES[shape[row.role]],
             strong=row.group == candidate)
        for row in matrix.rows for cell in [row.cells[place]]
    ]  # fmt: skip
    lines = [row.cells[place].mean for row in references(matrix)]
    step = 32 if len(rows) <= 24 else 24
    domain = _domain(_cells(matrix, words), log)
    spec = intervals(rows, width, domain, "format(datum.value, '~p')", lines, log=log,
                      step=step, right=66)  # fmt: skip
    spoken = "; ".join(f"{row.label} {row.value}" for row in rows)
    return vega.Figure(spec, f"Probability of “{candidate}”: {spoken}")


def own_panel(
    matrix: TraitMatrix, models: Sequence[MatrixRow], groups: Sequence[str], width: float
) -> vega.Figure:
    """Of some models each one's probability of its own trait, before a grey bar from the least to
    the most that those of other traits say it, and a mark where the first reference is."""
    words = drawn_words(matrix, groups)
    log, shape = logarithmic(matrix, words), shapes(matrix)
    known = references(matrix)
    rows = []
    for row in models:
        place = matrix.candidates.index(row.group or "")
        cell = row.cells[place]
        others = [
            each.cells[place].mean
            for each in matrix.rows
            if each.role == row.role and each.group != row.group
        ]
        rows.append(
            Interval(row.model, percent(cell.mean), cell.mean, cell.low, cell.high,
                 vega.colour(row.group, groups), shape=SHAPES[shape[row.role]],
                 least=min(others, default=None), most=max(others, default=None),
                 tick=known[0].cells[place].mean if known else None)
        )  # fmt: skip
    domain = _domain(_cells(matrix, words), log)
    every = [row.model for row in matrix.rows if row.group in words]
    spec = intervals(rows, width, domain, "format(datum.value, '~p')", [], log=log, step=24,
                      right=66, labels=every)  # fmt: skip
    spoken = "; ".join(f"{row.label} {row.value}" for row in rows)
    return vega.Figure(spec, f"Probability of the own trait: {spoken}")


def interval_text(effect: Effect) -> str:
    """The estimate and its interval: "+1.52 [+0.94, +2.08]", or for a ratio "62.3 [41.0, 93.1]"."""
    values = [v for v in (effect.estimate, effect.low, effect.high) if v is not None]
    far_apart = effect.unit == "ratio" and max(values) > 50 * min(values)
    estimate, *ends = map(number, values) if far_apart else numbers(values, effect.unit != "ratio")
    return f"{estimate} [{', '.join(ends)}]" if ends else estimate


def forest(
    effects: Sequence[Effect], groups: Sequence[str], width: float, of: Sequence[Effect] = ()
) -> vega.Figure:
    """Effects of one unit with their intervals around the line of no effect, on the axis of all
    that they are part `of`."""
    unit, phone = effects[0].unit, width < vega.PHONE_PX
    ratio = unit == "ratio"
    nothing, domain = (1.0, vega.log) if ratio else (0.0, vega.linear)
    label = "format(datum.value, '~r')"
    if not ratio:
        label = "datum.value ? format(datum.value, '+.3~r') : '0'"
    values = [v for e in [*effects, *of] for v in (e.estimate, e.low, e.high) if v is not None]
    rows = [
        Interval(effect.label, interval_text(effect), effect.estimate, effect.low, effect.high,
             vega.colour(effect.group, groups), sure=effect.significant,
             note="significant" if effect.significant else "not significant")
        for effect in effects
    ]  # fmt: skip
    spec = intervals(rows, width, domain([*values, nothing]), label, [nothing], log=ratio,
                      step=46, right=20 if phone else 206, unit=unit,
                      phone=phone)  # fmt: skip
    spoken = "; ".join(f"{row.label}: {row.value}, {row.note}" for row in rows)
    return vega.Figure(spec, f"Effects in {unit}. {spoken}")


# Curves and bars ----------------------------------------------------------------------------------


def loss_curves(panel: LossPanel, groups: Sequence[str], width: float) -> vega.Figure:
    """Loss by step, one line a run, named at its end unless there are too many for that."""
    curves = panel.curves
    named = len(curves) <= MOST_NAMED_CURVES
    steps = [step for curve in curves for step, _ in curve.points]
    losses = [loss for curve in curves for _, loss in curve.points]
    longest = vega.widest(curve.name for curve in curves)
    left, right, height = 48.0, min(longest, width * 0.34) + 18 if named else 10.0, 210.0
    plot = width - left - right
    log = min(losses) > 0 and max(losses) / min(losses) > 50
    low, high = vega.log(losses) if log else (min(0.0, *losses), (max(0.0, *losses) or 1.0) * 1.05)

    def down(loss: float) -> float:
        share = math.log(loss / low) / math.log(high / low) if log else (loss - low) / (high - low)
        return height * (1 - share)

    form = "r" if max(map(abs, losses)) < 1e5 else "g"
    first, last = min(steps), max(max(steps), min(steps) + 1)
    ends = vega.apart([down(curve.points[-1][1]) for curve in curves], 17, height - 4)
    channels: dict[str, vega.Encoded] = {
        "x": vega.axis(
            (first, last), plot, "format(datum.value, ',d')", every=64, grid=False, tickMinStep=1
        )
        | {"field": "step"},
        "y": vega.axis((low, high), height, f"format(datum.value, '.3~{form}')", log)
        | {"field": "loss"},
        "color": vega.as_is("colour"),
        "detail": {"field": "run"},
    }
    data = [
        {"run": run, "step": step, "loss": loss, "colour": vega.colour(curve.group, groups)}
        for run, curve in enumerate(curves)
        for step, loss in curve.points
    ]
    alone = {run for run, curve in enumerate(curves) if len(curve.points) == 1}
    dots = vega.layer("point", {"filled": True, "size": 80, "opacity": 1}, **channels)
    layers = [
        vega.layer("line", {"strokeWidth": 2 if named else 1.2, "strokeJoin": "round"}, **channels),
        dots | {"data": {"values": [point for point in data if point["run"] in alone]}},
        vega.word(fit(panel.quantity, width, 12), {"value": -left}, -22, "left", **vega.SMALL),
        vega.word("step", {"value": plot / 2}, height + 40, **vega.SMALL),
    ]
    for curve, end in zip(curves if named else (), ends, strict=False):
        name = fit(curve.name, right - 10, vega.FONT_PX)
        layers.append(vega.word(name, {"value": plot + 9}, end, "left", fontWeight=600,
                            color=vega.colour(curve.group, groups)))  # fmt: skip
    spoken = "; ".join(
        f"{curve.name} from {number(curve.points[0][1])} to {number(curve.points[-1][1])} "
        f"at step {number(curve.points[-1][0])}"
        for curve in curves
    )
    spec = vega.spec((plot, height), (left, right, 34, 50), data, layers)
    return vega.Figure(spec, f"{panel.quantity}: {spoken}")


class _Bar(NamedTuple):
    """`parts` are (share of the longest bar, colour), from the left."""

    label: str
    value: str
    parts: Sequence[tuple[float, str]]


def _bars(bars: Sequence[_Bar], width: float, whole: bool) -> dict[str, Any]:
    """Bars with their labels at the left and their values at the end. `whole` bars are all as long
    and have several parts; on a phone their words stand above them."""
    above = whole and width < vega.PHONE_PX
    longest = vega.widest(bar.label for bar in bars)
    left = 0.0 if above else min(width * 0.36, longest + 18)
    right = 0.0 if above else 18 + vega.widest(bar.value for bar in bars)
    plot, step = width - left - right, 48.0 if above else 25.0
    boxes, words = [], []
    for place, bar in enumerate(bars):
        bottom, x = step * (place + 1) - 4, 0.0
        for share, paint in bar.parts:
            end = x + share * plot
            boxes.append({"x": x, "x2": max(end - 1.5, x + 0.8), "y": bottom - 16, "y2": bottom,
                          "colour": paint})  # fmt: skip
            x = end
        label = fit(bar.label, width * 0.6 if above else left - 10, vega.FONT_PX)
        words.append({"label": label, "value": bar.value, "y": bottom - (28 if above else 8),
                      "x": plot + right if whole else x + 7})  # fmt: skip
    x_of, y_of = vega.pixels("x", plot), vega.pixels("y", step * len(bars))
    value = vega.layer("text", {"align": "right" if whole else "left"}, text={"field": "value"},
                   x=x_of, y=y_of)  # fmt: skip
    layers = [
        vega.layer("rect", x=x_of, x2={"field": "x2"}, y=y_of, y2={"field": "y2"},
               color=vega.as_is("colour")),
        vega.words("label", -left, y_of) | {"data": {"values": words}},
        value | {"data": {"values": words}},
    ]  # fmt: skip
    return vega.spec((plot, step * len(bars)), (left, right, 2, 2), boxes, layers)


Parts = list[tuple[str, int, str]]


def filter_parts(reports: Sequence[FilterReport], groups: Sequence[str]) -> list[Parts]:
    """Each filter's rows as (what became of them, how many, colour): kept, rejected by one rule
    alone (a colour each, the same for every filter), by several, unreadable."""
    rules = list(dict.fromkeys(rule.name for report in reports for rule in report.rules))
    paints = {name: f"var(--r{place})" for place, name in enumerate(rules[: vega.COLOURS])}
    return [
        [
            ("kept", report.rows_kept, vega.colour(report.group, groups)),
            *((f"{rule.name} alone", rule.sole_hits, paints.get(rule.name, "var(--several)"))
              for rule in report.rules),
            ("several rules", report.rows_rejected_by_several, "var(--several)"),
            ("unreadable", report.rows_unreadable, "var(--ink)"),
        ]
        for report in reports
    ]  # fmt: skip


def filter_bars(
    reports: Sequence[FilterReport], groups: Sequence[str], width: float
) -> vega.Figure:
    """What became of each filter's rows, as shares of them."""
    bars, spoken = [], []
    for report, parts in zip(reports, filter_parts(reports, groups), strict=True):
        shares = [(rows / report.rows_in, paint) for _, rows, paint in parts if rows]
        bars.append(_Bar(report.name, f"{report.rows_kept:,} of {report.rows_in:,} kept", shares))
        said = ", ".join(f"{name} {rows:,}" for name, rows, _ in parts if rows)
        spoken.append(f"{report.name}, {plural(report.rows_in, 'row')}: {said}")
    return vega.Figure(_bars(bars, width, whole=True), "; ".join(spoken))


def wall_time_bars(times: Sequence[WallTime], width: float) -> vega.Figure:
    """The longest wall times, in the order of their stages."""
    longest = sorted(times, key=lambda time: -time.seconds)[:MOST_STAGES]
    most = longest[0].seconds or 1.0
    bars = [
        _Bar(time.stage, duration(time.seconds), [(time.seconds / most, "var(--several)")])
        for time in times if time in longest
    ]  # fmt: skip
    spoken = "; ".join(f"{bar.label} {bar.value}" for bar in bars)
    return vega.Figure(_bars(bars, width, whole=False), f"Wall time: {spoken}")
