"""What the report's figures are made of: Vega-Lite specifications as plain dicts, drawn as static
SVG by vl-convert.

A figure is made for the width in pixels at which it will be read, so that its text is never scaled
down: the page shows one for wide screens and one for phones. Every place is given in pixels and
Vega measures no text, so the bytes do not depend on installed fonts. Colours are the page's CSS
variables, which light, dark and print resolve.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from subl.report.text import Html, escape, text_width, visible

FONT_PX = 13.0
COLOURS = 6
PHONE_PX = 600  # Below it, labels stand above a plot, not beside it.
SMALL: dict[str, Any] = {"fontSize": 11.5, "color": "var(--soft)"}
ONCE: dict[str, Any] = {"data": {"values": [{}]}}
_CONFIG = {
    "view": {"stroke": None},
    "text": {"fontSize": FONT_PX, "color": "var(--ink)", "lineHeight": 16, "baseline": "middle"},
    "axis": {"domain": False, "ticks": False, "gridColor": "var(--rule)", "labelPadding": 8,
             "labelColor": "var(--soft)", "labelFontSize": 12, "labelFlush": False,
             "labelOverlap": False, "labelLimit": 0},
}  # fmt: skip
# In tags alone, for a ">" in a text is escaped: what a page needs no more, a third of the bytes.
_NOISE = re.compile(
    r'<path[^<>]* display="none"/>'
    r'| (?:class|role|aria-[a-z]+|pointer-events|font-family|opacity="1")(?:="[^"]*")?(?=[^<>]*>)'
)
_DECIMALS = re.compile(r"(\d\.\d)\d+(?=[^<>]*>)")
Encoded = dict[str, Any]
Domain = tuple[float, float]


class Figure(NamedTuple):
    """`label` tells a screen reader what the figure shows."""

    spec: dict[str, Any]
    label: str


def svg(figure: Figure) -> Html:
    """Static SVG; nothing is loaded for it.

    Raises:
        ImportError: vl-convert is not installed.
    """
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(figure.spec, allowed_base_urls=[])
    head, _, body = _DECIMALS.sub(r"\1", _NOISE.sub("", drawn)).partition(">")
    size = head[head.index("width=") :]
    return Html(f'<svg role="img" aria-label="{escape(figure.label)}" {size}>{body}')


def colour(group: str | None, groups: Sequence[str]) -> str:
    """A group's colour; grey for none, and for those beyond what colours can tell apart."""
    known = group is not None and group in groups[:COLOURS]
    return f"var(--c{groups.index(group)})" if known and group else "var(--cn)"


# Scales and layers --------------------------------------------------------------------------------


def linear(values: Sequence[float]) -> Domain:
    margin = (max(values) - min(values)) * 0.06 or abs(max(values)) or 1.0
    return min(values) - margin, max(values) + margin


def log(values: Sequence[float]) -> Domain:
    """Around the positive `values`, out to whole decades where they are far apart."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    if high / low > 30:
        return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
    return low / 1.25, high * 1.25


def log_ticks(domain: Domain, most: float) -> list[float]:
    """At most so many values: 1-2-5 in each decade, or fewer of these; even steps where the axis is
    too short for two of them."""
    low, high = domain
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine, coarse = (
        [value for value in (float(f"{digit}e{power}") for power in decades for digit in digits)
         if low * 0.999 <= value <= high * 1.001]
        for digits in ((1, 2, 5), (1,))
    )  # fmt: skip
    if len(fine) < 2:
        return _even_ticks(domain, most)
    if len(fine) <= most:
        return fine
    ticks = coarse if len(coarse) > 1 else fine
    # The last one (100%, in a probability) stays.
    return ticks[:: -math.ceil(len(ticks) / most)][::-1]


def _even_ticks(domain: Domain, most: float) -> list[float]:
    """In even steps, without those that a logarithm puts too near to the one before."""
    low, high = domain
    least = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(least * each for each in (1, 2, 5, 10) if high - low <= least * each * most)
    ticks: list[float] = []
    for at in range(math.ceil(low / step), math.floor(high / step) + 1):
        if not ticks or math.log(step * at / ticks[-1]) >= math.log(high / low) / most:
            ticks.append(step * at)
    return ticks[: int(most)]


def axis(
    domain: Domain, extent: float, label: str, log: bool = False, every: int = 46, **axis: Any
) -> Encoded:
    """A channel from `domain` to `extent` pixels, with a tick about `every` so many; `label` is
    Vega's expression for them."""
    ticks = log_ticks(domain, max(2.0, extent / every)) if log else []
    axis |= {"values": ticks} if ticks else {"tickCount": max(2, int(extent / every))}
    scale = {"type": "log" if log else "linear", "domain": domain, "nice": False, "zero": False,
             "clamp": True}  # fmt: skip
    return {"type": "quantitative", "title": None, "scale": scale,
            "axis": {"labelExpr": label, "grid": True, **axis}}  # fmt: skip


def pixels(field: str, extent: float) -> Encoded:
    """A channel whose values are pixels already, to the right or down."""
    scale = {"domain": [0, extent], "range": [0, extent], "nice": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": None}


def as_is(field: str) -> Encoded:
    return {"field": field, "scale": None}


def widest(texts: Iterable[str]) -> float:
    return max(text_width(visible(text), FONT_PX) for text in texts)


def layer(kind: str, mark: Mapping[str, Any] | None = None, **channels: Encoded) -> Encoded:
    return {"mark": {"type": kind, **(mark or {})}, "encoding": channels}


def words(field: str, x: float, y: Encoded, align: str = "left", **mark: Any) -> Encoded:
    return layer("text", {"align": align, **mark}, text={"field": field}, x={"value": x}, y=y)


def word(text: str, x: Encoded, y: float, align: str = "center", **mark: Any) -> Encoded:
    return layer("text", {"text": text, "align": align, **mark}, x=x, y={"value": y}) | ONCE


def spec(
    plot: tuple[float, float],
    margins: tuple[float, float, float, float],
    data: Sequence[Mapping[str, Any]],
    layers: Sequence[Encoded],
) -> dict[str, Any]:
    """The specification of a plot of so many pixels, and its margins left, right, above, below."""
    return {
        "width": plot[0],
        "height": plot[1],
        "padding": dict(zip(("left", "right", "top", "bottom"), margins, strict=True)),
        "autosize": "none",
        "background": None,
        "data": {"values": data},
        "layer": layers,
        "config": _CONFIG,
    }


def apart(places: Sequence[float], least: float, end: float) -> list[float]:
    """`places` pushed apart, in their order and between 0 and `end`, until neighbours are `least`
    from each other."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    result = list(places)
    for _ in range(200):
        result = [min(max(place, 0.0), end) for place in result]
        for one, other in pairwise(order):
            overlap = least - (result[other] - result[one])
            if overlap > 0.01:
                result[one] -= overlap / 2
                result[other] += overlap / 2
    return result
