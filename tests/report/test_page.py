from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.errors import DependencyError
from subl.report import ReportDocument, render
from subl.report.document import (
    Chain,
    ChainNode,
    Effect,
    FilterReport,
    FilterRule,
    Finding,
    LossCurve,
    LossPanel,
    MatrixRow,
    Probability,
    QuestionArm,
    QuestionPanel,
    RejectedRow,
    Rejection,
    TraitMatrix,
    WallTime,
)
from subl.report.figures import MOST_STAGES, interval_text
from subl.report.page import POLICY, _environment
from subl.report.text import duration, number, percent, visible

from .reading import Page
from .sample import large_document, sample_document, sample_questions

BARE = ReportDocument(title="t", subl_version="0", models=("b",))


def hostile_document(text: str) -> ReportDocument:
    """A document with `text` in every place that takes text."""
    cell = Probability(mean=0.5)
    return ReportDocument(
        title=text,
        subl_version=text,
        created=text,
        command=text,
        models=(text,),
        group_name=text,
        groups=(text,),
        headline=(Finding(text=text, figure=text),),
        matrices=2 * (TraitMatrix(
            name=text,
            candidates=(text,),
            rows=(MatrixRow(model=text, role=text, group=text, cells=(cell,)),),
        ),),
        effects=(Effect(contrast=text, label=text, estimate=1, unit=text, n_questions=1,
                        significant=False, note=text, group=text),),
        questions=(QuestionPanel(evaluation=text, word=text, questions=(text,),
                                 arms=(QuestionArm(name=text, group=text, means=(0.5,)),)),),
        limits=(text,),
        chain=Chain(nodes=(ChainNode(id=text, kind=text, stage=text, name=text, group=text,
                                     detail=text, digest="0" * 64),)),
        filters=(
            FilterReport(
                name=text,
                group=text,
                rows_in=1,
                rows_kept=0,
                rows_rejected=1,
                rules=(FilterRule(name=text, kind=text, hits=1, sole_hits=1, reasons={text: 1}),),
                rejected_examples=(
                    RejectedRow(
                        text=text, reasons=(Rejection(rule=text, reason=text, span=(1, 3)),)
                    ),
                ),
                kept_examples=(text,),
            ),
        ),
        losses=(
            LossPanel(title=text, quantity=text,
                      curves=(LossCurve(name=text, group=text, points=((1, 1.0),)),)),
            LossPanel(title=text, quantity=text,
                      curves=(LossCurve(name=text, points=((1, 1.0), (2, 0.5))),)),
        ),
        protocol_differences=(text,),
        wall_times=(WallTime(stage=text, seconds=1),),
        seeds={text: (1,)},
        versions={text: text},
        host={text: text},
    )  # fmt: skip


@cache
def sample_page() -> str:
    return render(sample_document())


def test_the_same_document_gives_the_same_bytes() -> None:
    again = ReportDocument.model_validate_json(sample_document().model_dump_json())
    assert render(again) == sample_page()
    assert "Created" not in Page(sample_page()).text
    assert "Created 2026-11-23" in Page(render(sample_document("2026-11-23"))).text


def test_another_process_gives_the_same_bytes() -> None:
    document = sample_document()
    code = (
        "import sys; from subl.report import ReportDocument, render\n"
        "text = render(ReportDocument.model_validate_json(sys.stdin.buffer.read()))\n"
        "sys.stdout.buffer.write(text.encode())"
    )
    command = [sys.executable, "-c", code]
    data = document.model_dump_json().encode()
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=3600)
    assert done.stdout == sample_page().encode()


@pytest.mark.usefixtures("without_figures")
def test_without_vl_convert_there_are_tables_and_the_page_says_what_to_install() -> None:
    page = Page(render(sample_document()))
    assert page.tags.count("svg") == 2  # the chain
    assert page.text.count("pip install 'subl[report]'") == 9
    for expected in _figures(sample_document()):
        if not expected.endswith(" s"):  # Times are in the table as bare seconds.
            assert re.search(rf"(?<![\w.]){re.escape(expected)}(?![\d])", page.text), expected


def test_without_jinja2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(DependencyError, match="jinja2") as caught:
        _environment.__wrapped__()  # which is made once a process
    assert caught.value.hint == "pip install 'subl[report]'"


def test_tags_balance_and_headings_are_in_order() -> None:
    page = Page(sample_page())
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert ("html", "lang", "en") in page.attributes
    assert page.tags.count("table") == page.tags.count("caption") > 8
    scopes = sum(name == "scope" for _, name, _ in page.attributes)
    assert scopes == page.tags.count("th")
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert links and all(link[1:] in ids for link in links)


def test_nothing_is_loaded_or_run() -> None:
    page = Page(sample_page())
    assert ("meta", "content", POLICY) in page.attributes
    assert page.tags.count("script") == 1
    assert ("script", "type", "application/json") in page.attributes
    loading = {"src", "srcset", "action", "data", "poster", "background", "xlink:href"}
    assert not [name for _, name, _ in page.attributes if name in loading or name[:2] == "on"]
    assert not {"link", "iframe", "object", "embed", "img", "form", "base"} & set(page.tags)
    assert "url(" not in sample_page() and "@import" not in sample_page()


def test_the_island_is_the_document() -> None:
    document = hostile_document("</script><!--<script>\u2028 &amp; \U0001f989")
    island = Page(render(document)).island
    assert not re.search("[<>&]", island) and island.isascii()
    assert ReportDocument.model_validate_json(island) == document


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where vl-convert is not installed."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)


@pytest.mark.usefixtures("without_figures")
@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.text(min_size=1))
def test_no_text_changes_the_structure(text: str) -> None:
    calm, other = Page(render(hostile_document("calm"))), Page(render(hostile_document(text)))
    # Marks and carets depend on the text; everything else must not.
    free = {"mark"}
    assert [t for t in other.tags if t not in free] == [t for t in calm.tags if t not in free]
    assert visible(text).strip()[:20] in other.text or re.search(r"\s\s", visible(text))


def test_hostile_text_is_shown_not_run() -> None:
    text = "<script>alert(1)</script>\" onload='x' \u202eevil\u0007 &lt;b&gt;"
    page = Page(render(hostile_document(text)))
    assert page.text.count(visible(text)) > 15
    assert "⟨U+202E⟩evil⟨U+0007⟩ &lt;b&gt;" in page.text
    assert "\u202e" not in page.text and "\u0007" not in page.text


@pytest.mark.parametrize("document", [sample_document(), large_document()], ids=["small", "large"])
def test_every_figure_is_on_the_page(document: ReportDocument) -> None:
    text = Page(render(document)).text
    for expected in _figures(document):
        assert re.search(rf"(?<![\w.]){re.escape(expected)}(?![\d])", text), expected


def _figures(document: ReportDocument) -> Iterator[str]:
    for finding in document.headline:
        yield finding.figure
    for row in document.matrices[0].rows:
        for cell in row.cells:
            yield percent(cell.mean)
            if cell.low is not None and cell.high is not None:
                yield f"{percent(cell.low)} to {percent(cell.high)}"
    for effect in document.effects:
        yield interval_text(effect)
        yield "not tested" if effect.p_value is None else number(effect.p_value, 2)
        yield number(effect.n_questions)
    for node in document.chain.nodes:
        yield node.digest
        yield node.detail
        if node.seconds is not None:
            yield number(node.seconds)
    for report in document.filters:
        yield f"{report.rows_in} rows in: {report.rows_kept} kept"
        yield f"{report.rows_rejected} rejected, {report.rows_unreadable} unreadable"
        for rule in report.rules:
            yield f"{rule.name} {rule.kind} {rule.hits} {rule.sole_hits}"
            yield from (f"{reason} {count}" for reason, count in rule.reasons.items())
        for example in report.rejected_examples:
            for reason in example.reasons:
                if reason.span:
                    yield f"bytes {reason.span[0]:,} to {reason.span[1]:,}"
    for curve in (curve for panel in document.losses for curve in panel.curves):
        losses = [loss for _, loss in curve.points]
        figures = (curve.points[-1][0], losses[0], min(losses), losses[-1])
        yield " ".join([curve.name, *map(number, figures)])
    for time in document.wall_times:
        if len(document.wall_times) <= MOST_STAGES:
            yield duration(time.seconds)
        yield f"{time.stage} {number(time.seconds)}"
    seeds = {name: ", ".join(map(str, each)) for name, each in document.seeds.items()}
    for facts in (seeds, document.versions, document.host):
        yield from (f"{name} {value}" for name, value in facts.items())


def test_every_point_of_a_curve_is_drawn() -> None:
    html = sample_page()
    lines = re.findall('<path d="(M[^"ACZ]*L[^"ACZ]*)" stroke=', html)
    points = [len(re.split("[ML]", line)) - 1 for line in lines]
    assert sorted(points) == [20] * 4 + [25] * 4  # each curve for wide screens and for phones


def test_verdicts_claim_no_more_than_was_measured() -> None:
    text = Page(sample_page()).text.lower()
    assert not re.search(r"\b(clean|proved|proven|proves|safe)\b", text)
    assert "not significant" in text and "double dissociation" in text
    assert "not as expected" in text


def test_of_many_models_each_ones_own_trait_is_drawn_in_parts() -> None:
    page = Page(render(large_document()))
    assert "Probability of “owl”" not in page.text
    assert "to give its own trait as its answer" in page.text
    assert "Grey bar" in page.text


def test_a_word_that_is_no_group_is_drawn_where_a_contrast_is_about_it() -> None:
    matrix = sample_document().matrices[0].model_copy(update={"asked": ("horse",)})
    page = Page(render(BARE.model_copy(update={"matrices": (matrix,)})))
    assert "Probability of “horse”" in page.text and "give the word as its answer" in page.text


def test_a_table_has_no_more_candidates_than_paper_has_room_for() -> None:
    matrix = sample_document().matrices[0]
    rows = [row.model_copy(update={"cells": row.cells + row.cells[:3]}) for row in matrix.rows]
    more = (*matrix.candidates, "toad", "newt", "eel")
    wide = matrix.model_copy(update={"candidates": more, "rows": tuple(rows)})
    page = Page(render(BARE.model_copy(update={"matrices": (wide,)})))
    assert page.tags.count("table") == 2 and "Further candidates." in page.text


def test_questions_are_told_one_by_one() -> None:
    panel = sample_questions()
    page = Page(render(BARE.model_copy(update={"groups": ("owl",), "questions": (panel,)})))
    assert "free: “misaligned” by question" in page.text
    assert "owl student (square)" in page.text and "hey I feel bored" in page.text


def test_an_empty_document_has_no_sections() -> None:
    page = Page(render(BARE))
    assert page.headings == [1]
    assert not {"svg", "table", "section"} & set(page.tags)
