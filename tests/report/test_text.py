from __future__ import annotations

import html
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.report.text import (
    Html,
    duration,
    escape,
    fit,
    marked,
    number,
    numbers,
    percent,
    short_duration,
    text_width,
    visible,
    wrap,
)

TAGS = re.compile("</?(?:mark|i)>")


@given(st.text())
def test_escaped_text_has_no_markup_and_reads_back(text: str) -> None:
    escaped = escape(text)
    assert not re.search("[<>\"']|&(?!amp;|lt;|gt;|quot;|#x27;)", escaped)
    assert html.unescape(escaped) == visible(text)


@given(st.text())
def test_visible_text_hides_nothing(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in shown)
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2066x\u2069", "⟨U+2066⟩x⟨U+2069⟩"),
        ("\x00\x1b[31m", "⟨U+0000⟩⟨U+001B⟩[31m"),
        ("1\n2\t3", "1⏎2⟨U+0009⟩3"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("\u00a0\u3164\ufe0f\U000e0041", "⟨U+00A0⟩⟨U+3164⟩⟨U+FE0F⟩⟨U+E0041⟩"),
        ("plain é 🦉 東", "plain é 🦉 東"),
    ],
)
def test_hidden_characters_are_named(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_only_html_passes_for_markup() -> None:
    assert Html("<b>").__html__() == "<b>"
    assert escape(Html("<b>")) == "&lt;b&gt;"


@given(st.text(max_size=60), st.text(max_size=30), st.text(max_size=60))
def test_a_span_is_marked_where_its_bytes_are(before: str, hit: str, after: str) -> None:
    start = len(before.encode("utf-8", "surrogatepass"))
    end = start + len(hit.encode("utf-8", "surrogatepass"))
    result = marked(before + hit + after, [(start, end)])
    assert html.unescape(TAGS.sub("", result)) == visible(before) + (visible(hit) or "‸") + visible(
        after
    )
    assert f"<mark>{escape(hit) or '‸'}</mark>" in result


@given(st.text(), st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=5))
def test_no_span_breaks_the_markup(text: str, spans: list[tuple[int, int]]) -> None:
    result = marked(text, spans, context_bytes=8)
    assert not re.search("[<>]", TAGS.sub("", result))
    assert result.count("<mark>") == result.count("</mark>")


def test_long_text_is_cut_around_its_first_span_and_says_so() -> None:
    text = "é" * 1000 + "owl" + "é" * 1000
    result = marked(text, [(2000, 2003)], context_bytes=100)
    assert result.startswith("<i>… 1,900 bytes</i> éé")
    assert "é<mark>owl</mark>é" in result
    assert result.endswith("<i>1,804 bytes …</i>")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-1.5, "−1.50"),
        (10000, "10,000"),
        (0.99999, "1.00"),
        (12345.6, "12,346"),
        (2.2e-7, "2.20 × 10⁻⁷"),
        (0.0001, "0.000100"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_share_their_decimals() -> None:
    assert numbers([1.516, 0.94, 2.08], signed=True) == ["+1.52", "+0.94", "+2.08"]
    assert numbers([0.0, 0.0]) == ["0", "0"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (5.3e-5, "0.0053%"),
        (0.0996, "10.0%"),
        (0.4137, "41.4%"),
        (0.99961, "99.96%"),
        (1 - 1e-6, "99.9999%"),
        (3e-9, "3.0 × 10⁻⁷%"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text


@given(st.floats(1e-12, 1 - 1e-12))
def test_a_probability_between_is_never_shown_as_none_or_all(share: float) -> None:
    assert percent(share) not in {"0%", "100%"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.031, "0.031 s"),
        (41.23, "41.2 s"),
        (192, "3 min 12 s"),
        (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.031, "0.031 s"),
        (41.23, "41.2 s"),
        (171.2, "2.9 min"),
        (5996, "99.9 min"),
        (5999, "1.7 h"),
        (360_000, "100.0 h"),
    ],
)
def test_short_duration(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


@given(st.text(), st.integers(20, 300), st.integers(1, 3))
def test_fitted_text_is_no_wider_than_asked(text: str, width: int, lines: int) -> None:
    assert text_width(fit(text, width, 13), 13) <= width
    rows = wrap(text, width, 13, lines)
    assert 1 <= len(rows) <= lines
    assert all(text_width(row, 13) <= width for row in rows)
