"""Text and numbers as the page prints them.

Whatever reaches the page passes through `escape`, once. Text written by a model can hide things
from the reader's eye as well as attack the page, so characters that show nothing or reorder their
neighbours (controls, bidirectional marks, zero-width and tag characters, odd spaces) are printed by
name, as ⟨U+202E⟩. `Html` marks what is already markup; everything else is text.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Sequence

_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Blank letters and ignorable marks that no category gives away.
_HIDDEN_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE0FFF),
)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MINUS = "\N{MINUS SIGN}"
_TIMES = "\N{MULTIPLICATION SIGN}"


class Html(str):
    """Markup that is safe to insert as it is; templates know it by `__html__`."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def visible(text: str) -> str:
    """`text` with each hidden character replaced by its name; a line feed becomes ⏎."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    category = unicodedata.category(character)
    point = ord(character)
    hidden = (
        category in _HIDDEN_CATEGORIES
        or (category == "Zs" and character not in " \u3000")
        or any(first <= point <= last for first, last in _HIDDEN_RANGES)
    )
    return f"⟨U+{point:04X}⟩" if hidden else character


def escape(text: str) -> Html:
    """`text` made visible and safe in HTML and XML, in element content and quoted attributes."""
    return Html(html.escape(visible(text), quote=True))


def marked(text: str, spans: Sequence[tuple[int, int]], context_bytes: int = 320) -> Html:
    """`text` with every span (UTF-8 byte offsets) in <mark>.

    Only the surroundings of the first span are shown, up to `context_bytes` before and twice that
    after its start; what is left out is counted. Spans beyond the text are cut to it, and an empty
    span is a caret.
    """
    data = text.encode("utf-8", "surrogatepass")
    size = len(data)
    clipped = sorted((min(start, size), min(max(start, end), size)) for start, end in spans)
    first = clipped[0][0] if clipped else 0
    begin = _character_start(data, first - context_bytes) if first > context_bytes + 40 else 0
    stop = _character_start(data, min(size, begin + 3 * context_bytes))
    carets = {start for start, end in clipped if start == end}
    cuts = {begin, stop} | {cut for span in clipped for cut in span if begin <= cut <= stop}
    parts = [Html(f"<i>… {begin:,} bytes</i> ")] if begin else []
    edges = sorted(cuts)
    for start, end in zip(edges, [*edges[1:], stop], strict=True):
        if start in carets:
            parts.append(Html("<mark>‸</mark>"))
        piece = escape(data[start:end].decode("utf-8", "replace"))
        hit = any(low <= start and end <= high for low, high in clipped)
        parts.append(Html(f"<mark>{piece}</mark>") if hit and piece else piece)
    if stop < size:
        parts.append(Html(f" <i>{size - stop:,} bytes …</i>"))
    return Html("".join(parts))


def _character_start(data: bytes, offset: int) -> int:
    """The start of the character that byte `offset` lies in."""
    while 0 < offset < len(data) and data[offset] & 0xC0 == 0x80:
        offset -= 1
    return offset


def number(value: float, digits: int = 3, signed: bool = False) -> str:
    """So many significant digits, with a real minus sign; whole numbers in full, with commas."""
    sign, size = _sign(value, signed), abs(value)
    if size < 1e15 and size == int(size):
        return f"{sign}{int(size):,}"
    if 1000 <= size < 1e15:
        return f"{sign}{size:,.0f}"
    if not 1e-4 <= size < 1e15:
        return f"{sign}{_scientific(size, digits)}"
    return f"{sign}{_significant(size, digits)}"


def numbers(values: Sequence[float], signed: bool = False) -> list[str]:
    """`values` to the same number of decimals: three digits of the largest one."""
    largest = max((abs(value) for value in values), default=0.0)
    if not 1e-3 <= largest < 1e6:
        return [number(value, signed=signed) for value in values]
    decimals = max(0, 2 - math.floor(math.log10(largest)))
    return [f"{_sign(value, signed)}{abs(value):,.{decimals}f}" for value in values]


def _sign(value: float, signed: bool) -> str:
    return _MINUS if value < 0 else "+" if signed and value > 0 else ""


def _scientific(size: float, digits: int) -> str:
    mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
    return f"{mantissa} {_TIMES} 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def percent(share: float) -> str:
    """A probability as a percentage: two significant digits, one decimal from 10% on, and near
    100% as many as it takes to tell it from 100%."""
    value = 100 * share
    if value == 0 or value == 100:
        return f"{value:.0f}%"
    if value >= 99.95:
        return f"{value:.{min(9, math.ceil(-math.log10(100 - value)))}f}%"
    if value >= 9.95:
        return f"{value:.1f}%"
    if value < 1e-5:
        return f"{_scientific(value, 2)}%"
    return f"{_significant(value, 2)}%"


def _significant(size: float, digits: int) -> str:
    """`size` (positive) to so many significant digits, in positional notation."""
    decimals = max(0, digits - 1 - math.floor(math.log10(float(f"{size:.{digits - 1}e}"))))
    return f"{size:.{decimals}f}"


def duration(seconds: float) -> str:
    """A wall time in at most two units: "0.031 s", "41.2 s", "3 min 12 s", "2 h 05 min"."""
    if seconds < 1:
        return f"{number(seconds, 2)} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        whole = round(seconds)
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def short_duration(seconds: float) -> str:
    """A wall time in one unit, for where there is little room: "41.2 s", "3.2 min", "2.1 h"."""
    if seconds < 100:
        return duration(seconds)
    if seconds < 100 * 60 - 3:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def text_width(text: str, size_px: float) -> float:
    """Rough width in pixels of `text` in a sans-serif of `size_px`; errs on the wide side."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return size_px * (0.57 * (len(text) - wide) + wide)


def fit(text: str, width_px: float, size_px: float) -> str:
    """`text`, made visible and cut with an ellipsis to be no wider than `width_px`."""
    shown = visible(text)
    if text_width(shown, size_px) <= width_px:
        return shown
    while shown and text_width(f"{shown}…", size_px) > width_px:
        shown = shown[:-1]
    return f"{shown.rstrip()}…"


def wrap(text: str, width_px: float, size_px: float, lines: int = 2) -> list[str]:
    """`text` broken into at most `lines` lines, the last one cut to fit: at spaces, and a word that
    is wider than a line at its hyphens."""
    rows = [""]
    for word in visible(text).split(" "):
        parts = [word]
        if text_width(word, size_px) > width_px:
            parts = re.findall(r"[^-]+-*|-+", word) or parts
        for place, part in enumerate(parts):
            longer = f"{rows[-1]}{' ' if rows[-1] and not place else ''}{part}"
            if len(rows) == lines or text_width(longer, size_px) <= width_px or not rows[-1]:
                rows[-1] = longer
            else:
                rows.append(part)
    return [fit(row, width_px, size_px) for row in rows]
