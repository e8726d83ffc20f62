"""Figures of a scan: what candidates gain row by row, the bets against the base, and what each
gains a row."""

from __future__ import annotations

from collections.abc import Sequence

from subl.report import vega
from subl.report.document import ScanLine, ScanMark
from subl.report.figures import Interval, intervals
from subl.report.text import fit, number, numbers

MOST_MARKS = 12


def tracks(
    lines: Sequence[ScanLine],
    groups: Sequence[str],
    quantity: str,
    width: float,
    bar: float | None = None,
) -> vega.Figure:
    """Nats by rows, a line each, named at its end; dashed: 0, or the `bar`."""
    longest = vega.widest(line.name for line in lines)
    left, right, height = 52.0, min(longest, width * 0.34) + 18, 230.0
    plot = width - left - right
    values = [value for line in lines for _, value in line.points]
    most = max(2, *(rows for line in lines for rows, _ in line.points))
    mark = 0.0 if bar is None else bar
    domain = vega.linear([*values, mark, 0.0])
    x = vega.axis((1, most), plot, "format(datum.value, ',d')", every=64, grid=False, tickMinStep=1)
    y = vega.axis(domain, height, "format(datum.value, ',')")
    data = [
        {"line": at, "rows": rows, "nats": value, "colour": vega.colour(line.group, groups)}
        for at, line in enumerate(lines)
        for rows, value in line.points
    ]
    channels: dict[str, vega.Encoded] = {
        "x": x | {"field": "rows"},
        "y": y | {"field": "nats"},
        "color": vega.as_is("colour"),
        "detail": {"field": "line"},
    }
    alone = {at for at, line in enumerate(lines) if len(line.points) == 1}
    dots = vega.layer("point", {"filled": True, "size": 60, "opacity": 1}, **channels)
    layers = [
        vega.layer("rule", {"color": "var(--soft)", "strokeDash": [3, 4]}, y=y | {"datum": mark})
        | vega.ONCE,
        vega.layer("line", {"strokeWidth": 2, "strokeJoin": "round"}, **channels),
        dots | {"data": {"values": [each for each in data if each["line"] in alone]}},
        vega.word(fit(quantity, width, 12), {"value": -left}, -22, "left", **vega.SMALL),
        vega.word("rows", {"value": plot / 2}, height + 40, **vega.SMALL),
    ]
    spread = domain[1] - domain[0]
    lasts = [height * (domain[1] - line.points[-1][1]) / spread for line in lines]
    for line, place in zip(lines, vega.apart(lasts, 17, height - 4), strict=True):
        text = fit(line.name, right - 10, vega.FONT_PX)
        layers.append(vega.word(text, {"value": plot + 9}, place, "left", fontWeight=600,
                                color=vega.colour(line.group, groups)))  # fmt: skip
    spoken = "; ".join(
        f"{line.name} {number(line.points[-1][1])} after {number(line.points[-1][0])} rows"
        for line in lines
    )
    spec = vega.spec((plot, height), (left, right, 34, 50), data, layers)
    return vega.Figure(spec, f"{quantity}: {spoken}")


def mark_text(mark: ScanMark) -> str:
    """The estimate and its interval: "+0.41 [+0.32, +0.50]"."""
    values = [v for v in (mark.value.mean, mark.value.low, mark.value.high) if v is not None]
    estimate, *ends = numbers(values, signed=True)
    return f"{estimate} [{', '.join(ends)}]" if ends else estimate


def nats_a_row(marks: Sequence[ScanMark], groups: Sequence[str], width: float) -> vega.Figure:
    """What each gains a row, with its interval, around the line of no gain."""
    phone = width < vega.PHONE_PX
    rows = [
        Interval(mark.name, mark_text(mark), mark.value.mean, mark.value.low, mark.value.high,
                 vega.colour(mark.group, groups), note=f"{mark.rows:,} rows")
        for mark in marks
    ]  # fmt: skip
    ends = [v for m in marks for v in (m.value.mean, m.value.low, m.value.high) if v is not None]
    label = "datum.value ? format(datum.value, '+.3~r') : '0'"
    spec = intervals(rows, width, vega.linear([*ends, 0.0]), label, [0.0], log=False, step=46,
                     right=20 if phone else 206, unit="nats a row", nothing="no gain",
                     phone=phone)  # fmt: skip
    spoken = "; ".join(f"{row.label}: {row.value}" for row in rows)
    return vega.Figure(spec, f"Nats a row. {spoken}")
