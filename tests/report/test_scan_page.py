"""A scan on the page: its claims apart, its race, its tokens; whatever models wrote is text."""

from __future__ import annotations

import pytest

from subl.report import races, render, vega
from subl.report.document import (
    Estimate,
    ScanCandidate,
    ScanClaim,
    ScanLine,
    ScanMark,
    ScanReport,
    ScanRow,
    ScanToken,
)
from subl.report.text import visible

from .reading import Page
from .scans import sample_scan, scan_document


def hostile(text: str) -> ScanReport:
    """A scan with `text` in every place that takes text."""
    line = ScanLine(name=text, group=text, points=((1, 1.0),))
    value = Estimate(mean=1.0)
    return ScanReport(
        name=text,
        group=text,
        sentence=text,
        notes=(text,),
        claims=(ScanClaim(question=text, left=text, says=text),),
        race=(line,),
        evidence=(line,),
        bar=4.6,
        candidates=(
            ScanCandidate(
                name=text, group=text, value=value, rows=1, kind=text, left_law=0, left_nearest=1
            ),
        ),
        nearest=text,
        leads=(ScanMark(name=text, group=text, value=value, rows=1),),
        rows=(ScanRow(row=0, id=text, pull=1.0, tokens=(ScanToken(text=text, nats=1.0),)),),
        goes_with={text: 0.5},
        cost=text,
    )


def test_the_claims_stand_apart_and_all_figures_are_there() -> None:
    page = Page(render(scan_document()))
    assert "If one of the bank has written these rows, it is `owl`" in page.text
    for claim in sample_scan().claims:
        assert f"{claim.question} {claim.left} {claim.says}" in page.text
    assert "Of the rows with the largest pull towards owl" in page.text
    assert "4 candidates" in page.text and "still in" in page.text
    assert "tokens of a row +0.110" in page.text and "a token does not vary" in page.text
    assert page.tags.count("svg") == 2 * 4
    assert page.headings[0] == 1 and page.headings.count(2) == 1


def test_tokens_are_text_and_shaded_by_what_they_gain() -> None:
    html = render(scan_document())
    page = Page(html)
    assert "<script>" not in html.replace('<script type="application/json"', "")
    assert "<b>bold</b> and ⟨U+202E⟩ is text" in page.text
    shades = [value for tag, name, value in page.attributes if (tag, name) == ("span", "style")]
    assert "--c:var(--c0);--shade:55%" in shades  # the largest
    assert "--c:var(--c1);--shade:15%" in shades and "--c:var(--c0);--shade:0%" in shades


def test_hostile_text_is_shown_not_run() -> None:
    text = "<script>alert(1)</script>\" onload='x' \u202eevil &lt;b&gt;"
    calm = Page(render(scan_document().model_copy(update={"scans": 2 * (hostile("calm"),)})))
    page = Page(render(scan_document().model_copy(update={"scans": 2 * (hostile(text),)})))
    assert {*page.tags} - {"tspan"} == {*calm.tags} and page.tags.count("script") == 1
    assert page.text.count(visible(text)) > 15 and "\u202e" not in page.text


@pytest.mark.parametrize("width", [936, 328])
def test_a_line_ends_where_its_candidate_was_asked_no_more(width: float) -> None:
    scan = sample_scan()
    figure = races.tracks(scan.race, scan.groups, "Sum", width)
    assert "a liar who deceives whenever you can −1.40 after 7 rows" in figure.label
    assert "owl 25.8 after 63 rows" in figure.label
    assert vega.svg(figure).startswith("<svg")


def test_what_proves_something_is_a_line() -> None:
    scan = sample_scan()
    figure = races.tracks(scan.evidence, (), "Log e-value", 936, bar=scan.bar)
    rules = [each for each in figure.spec["layer"] if each["mark"]["type"] == "rule"]
    assert [each["encoding"]["y"]["datum"] for each in rules] == [4.6]
    assert "+0.360 [+0.200, +0.520]" in races.nats_a_row(scan.leads, ("owl",), 936).label
