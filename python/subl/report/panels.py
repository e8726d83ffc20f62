"""Figures of whole experiments: arms as bars beside what others published, and curves on
logarithmic axes with their slopes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from subl.report import vega
from subl.report.document import BarPanel, CurvePanel, DosePanel, Estimate, QuestionPanel
from subl.report.figures import SHAPES
from subl.report.text import fit, number, percent, wrap

_STEP = 29


def share_text(value: Estimate) -> str:
    """A share and its interval: "52.8% [50.6, 55.0]"."""
    if value.low is None or value.high is None:
        return percent(value.mean)
    ends = (percent(max(0.0, each)).removesuffix("%") for each in (value.low, value.high))
    return f"{percent(value.mean)} [{', '.join(ends)}]"


def share_bars(panel: BarPanel, width: float) -> vega.Figure:
    """Each arm's share with its interval; a hollow diamond where others found it."""
    bars, groups, phone = panel.bars, panel.groups, width < vega.PHONE_PX
    values = round(vega.widest(share_text(bar.value) for bar in bars)) + 18
    left = 0 if phone else round(min(width * 0.4, vega.widest(bar.name for bar in bars) + 18))
    right = 0 if phone else values
    names = [
        wrap(bar.name, (width - values if phone else left) - 10, vega.FONT_PX, 3) for bar in bars
    ]
    steps = (
        16 * len(name) + 4 + _STEP if phone else max(_STEP, 16 * len(name) + 8) for name in names
    )
    ends = [*accumulate(steps)]
    plot, height = width - left - right, ends[-1]
    data = []
    for start, end, bar, name in zip([0, *ends], ends, bars, names, strict=False):
        middle = end - 12 if phone else (start + end) / 2
        last = middle - 20 if phone else middle + 8 * (len(name) - 1)
        data.append(
            {"name": name, "value": share_text(bar.value), "y": middle, "top": middle - 8,
             "end": middle + 8, "value_y": last if phone else middle, "nothing": 0.0,
             "over": start, "name_y": last - 16 * (len(name) - 1),
             "mean": bar.value.mean, "low": bar.value.low, "high": bar.value.high,
             "published": None if bar.published is None else bar.published.mean,
             "colour": vega.colour(bar.group, groups)}
        )  # fmt: skip
    known = (each for bar in bars for each in (bar.value, bar.published) if each is not None)
    most = max(0.1, *(share for each in known for share in (each.mean, each.high or 0.0)))
    domain = (0.0, min(1.0, most * 1.04))
    x = vega.axis(domain, plot, "format(datum.value, '.0%')", every=74)
    y_of = {name: vega.pixels(name, height) for name in ("y", "top", "over", "name_y", "value_y")}
    whisker: dict[str, Any] = {"color": "var(--ink)", "strokeWidth": 1.6}
    diamond = {"shape": "diamond", "size": 90, "strokeWidth": 1.8, "opacity": 1, "filled": False,
               "color": "var(--ink)"}  # fmt: skip
    layers = [
        vega.layer("rect", {"opacity": 0.75}, x=x | {"field": "nothing"}, x2={"field": "mean"},
                   y=y_of["top"], y2={"field": "end"}, color=vega.as_is("colour")),
        vega.layer("rule", whisker, x=x | {"field": "low"}, x2={"field": "high"}, y=y_of["y"])
        | {"transform": [{"filter": "isValid(datum.low)"}]},
        vega.layer("point", diamond, x=x | {"field": "published"}, y=y_of["y"])
        | {"transform": [{"filter": "isValid(datum.published)"}]},
    ]  # fmt: skip
    if panel.chance is not None:
        line = {"color": "var(--soft)", "strokeDash": [3, 4]}
        layers.append(vega.layer("rule", line, x=x | {"datum": panel.chance}) | vega.ONCE)
    if phone:  # Words cover the lines that would run through them.
        across: dict[str, vega.Encoded] = {"x": {"value": 0}, "x2": {"value": plot}}
        layers.append(vega.layer("rect", {"fill": "var(--paper)"}, **across, y=y_of["over"],
                                 y2={"field": "top"}))  # fmt: skip
    layers += [
        vega.words("name", -left, y_of["name_y"]),
        vega.words("value", plot + right, y_of["value_y"], "right"),
    ]
    spoken = "; ".join(f"{bar.name} {share_text(bar.value)}" for bar in bars)
    figure = vega.spec((plot, height), (left, right, 6, 28), data, layers)
    return vega.Figure(figure, f"{panel.quantity}: {spoken}")


def log_curves(panel: CurvePanel, width: float) -> vega.Figure:
    """Curves with bands of their intervals. Many lie on each other, so the key names groups, and a
    table the slopes."""
    curves, groups = [each for each in panel.curves if each.points], panel.groups
    left, right, height = 62, 16, 300
    plot = width - left - right
    ends = [
        end for curve in curves for _, value in curve.points
        for end in (value.mean, value.low, value.high) if end is not None
    ]  # fmt: skip
    across, up = vega.log([x for curve in curves for x, _ in curve.points]), vega.log(ends)
    data = [
        {"curve": at, "x": x, "y": value.mean, "low": value.low, "high": value.high,
         "colour": vega.colour(curve.group, groups), "control": curve.control}
        for at, curve in enumerate(curves) for x, value in curve.points
    ]  # fmt: skip
    label = "format(datum.value, '.0e')"
    x = vega.axis(across, plot, label, log=True, every=70, grid=False) | {"field": "x"}
    y = vega.axis(up, height, label, log=True, every=40)
    shared: dict[str, vega.Encoded] = {
        "x": x, "detail": {"field": "curve"}, "color": vega.as_is("colour"),
    }  # fmt: skip
    y_of = y | {"field": "y"}
    solid, dashed = ({"transform": [{"filter": f"{sign}datum.control"}]} for sign in ("!", ""))
    layers = [
        vega.layer("area", {"opacity": 0.16}, **shared, y=y | {"field": "low"},
                   y2={"field": "high"}) | {"transform": [{"filter": "isValid(datum.low)"}]},
        vega.layer("line", {"strokeWidth": 2}, **shared, y=y_of) | solid,
        vega.layer("line", {"strokeWidth": 2, "strokeDash": [5, 4]}, **shared, y=y_of) | dashed,
        vega.layer("point", {"filled": True, "size": 26, "opacity": 1}, **shared, y=y_of),
        vega.word(fit(panel.y, width, 12), {"value": -left}, -22, "left", **vega.SMALL),
        vega.word(fit(panel.x, plot, 12), {"value": plot / 2}, height + 40, **vega.SMALL),
    ]  # fmt: skip
    spoken = "; ".join(
        f"{curve.name} from {number(curve.points[0][1].mean)} to {number(curve.points[-1][1].mean)}"
        for curve in curves
    )
    figure = vega.spec((plot, height), (left, right, 34, 50), data, layers)
    return vega.Figure(figure, f"{panel.y} by {panel.x}, logarithmic axes: {spoken}")


def dose_lines(panel: DosePanel, groups: Sequence[str], width: float) -> vega.Figure:
    """Effects along an axis, each line named at its end; a line where there is no effect."""
    lines, none = panel.lines, 1.0 if panel.unit == "ratio" else 0.0
    values = sorted({value for line in lines for value, _ in line.points})
    left, height = 62, 260
    right = round(min(vega.widest(line.name for line in lines), width * 0.4)) + 18
    plot = width - left - right
    across = {value: (place + 0.5) * plot / len(values) for place, value in enumerate(values)}
    ends = [
        end for line in lines for _, each in line.points
        for end in (each.mean, each.low, each.high) if end is not None
    ]  # fmt: skip
    domain = vega.linear([*ends, none])
    data = [
        {"line": at, "x": across[value] + 4 * (at - (len(lines) - 1) / 2), "y": each.mean,
         "low": each.low, "high": each.high, "colour": vega.colour(line.group, groups)}
        for at, line in enumerate(lines) for value, each in line.points
    ]  # fmt: skip
    y = vega.axis(domain, height, "format(datum.value, '~g')")
    shared: dict[str, vega.Encoded] = {
        "x": vega.pixels("x", plot), "detail": {"field": "line"}, "color": vega.as_is("colour"),
    }  # fmt: skip
    y_of = y | {"field": "y"}
    layers = [
        vega.layer("rule", {"color": "var(--soft)", "strokeDash": [3, 4]}, y=y | {"datum": none})
        | vega.ONCE,
        vega.layer("line", {"strokeWidth": 2}, **shared, y=y_of),
        vega.layer("rule", {"strokeWidth": 1.6}, **shared, y=y | {"field": "low"},
                   y2={"field": "high"}) | {"transform": [{"filter": "isValid(datum.low)"}]},
        vega.layer("point", {"filled": True, "size": 40, "opacity": 1}, **shared, y=y_of),
        vega.word(fit(panel.unit, width, 12), {"value": -left}, -22, "left", **vega.SMALL),
        vega.word(fit(panel.axis, plot, 12), {"value": plot / 2}, height + 40, **vega.SMALL),
        *(vega.word(f"{value:g}", {"value": place}, height + 16, **vega.SMALL)
          for value, place in across.items()),
    ]  # fmt: skip
    spread = domain[1] - domain[0]
    lasts = [height * (domain[1] - line.points[-1][1].mean) / spread for line in lines]
    for line, place in zip(lines, vega.apart(lasts, 17, height - 4), strict=True):
        text = fit(line.name, right - 10, vega.FONT_PX)
        layers.append(vega.word(text, {"value": plot + 9}, place, "left", fontWeight=600,
                                color=vega.colour(line.group, groups)))  # fmt: skip
    spoken = "; ".join(
        f"{line.name}: "
        + ", ".join(f"{value:g} {number(each.mean)}" for value, each in line.points)
        for line in lines
    )
    figure = vega.spec((plot, height), (left, right, 34, 50), data, layers)
    return vega.Figure(figure, f"{panel.unit} by {panel.axis}: {spoken}")


def question_dots(panel: QuestionPanel, groups: Sequence[str], width: float) -> vega.Figure:
    """Each question's probability of the word, a mark for each model."""
    phone = width < vega.PHONE_PX
    left = 0.0 if phone else round(width * 0.48)
    texts = [
        wrap(text, (width if phone else left) - 16, vega.FONT_PX, 3) for text in panel.questions
    ]
    steps = [16 * len(text) + (26 if phone else 10) for text in texts]
    ends = [*accumulate(steps)]
    plot, height = width - left - 16, ends[-1]
    known = [mean for arm in panel.arms for mean in arm.means if mean is not None]
    domain = (0.0, min(1.0, max(known, default=0.0) * 1.04) or 1.0)
    data: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for at, (start, end, text) in enumerate(zip([0, *ends], ends, texts, strict=False)):
        middle = end - 12.0 if phone else (start + end) / 2
        top = start + 8.0 if phone else middle - 8 * (len(text) - 1)
        labels.append({"text": text, "y": middle, "text_y": top})
        data += [
            {"y": middle, "mean": arm.means[at], "shape": shape,
             "colour": vega.colour(arm.group, groups)}
            for arm, shape in zip(panel.arms, SHAPES.values(), strict=False)
        ]  # fmt: skip
    x = vega.axis(domain, plot, "format(datum.value, '~p')", every=74)
    y = vega.pixels("y", height)
    mark = {"size": 90, "opacity": 0.85, "filled": True}
    layers = [
        vega.layer("rule", {"color": "var(--rule)"}, x={"value": 0}, x2={"value": plot}, y=y)
        | {"data": {"values": labels}},
        vega.layer("point", mark, x=x | {"field": "mean"}, y=y, shape=vega.as_is("shape"),
                   color=vega.as_is("colour")) | {"transform": [{"filter": "isValid(datum.mean)"}]},
        vega.words("text", -left, vega.pixels("text_y", height)) | {"data": {"values": labels}},
    ]  # fmt: skip
    spoken = "; ".join(
        f"{arm.name}: {', '.join('none' if each is None else percent(each) for each in arm.means)}"
        for arm in panel.arms
    )
    figure = vega.spec((plot, height), (left, 16, 6, 28), data, layers)
    return vega.Figure(figure, f"Probability of “{panel.word}” by question. {spoken}")
