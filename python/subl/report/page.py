"""The page: a `ReportDocument` in, one self-contained HTML text out.

Sections are functions from the document to markup and are empty where the document is. Text becomes
markup only through `markup` (which escapes it) or inside `Html`, so nothing unescaped can slip
through a forgotten call. The page runs no script and its policy forbids loading anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from importlib import resources
from itertools import groupby

from subl.report.charts import (
    chain_graph,
    colour,
    filter_bar,
    forest,
    heat_step,
    interval_text,
    loss_curves,
    trait_panel,
    wall_time_bars,
)
from subl.report.document import Effect, FilterReport, Finding, LossCurve, ReportDocument
from subl.report.text import Html, duration, escape, join, marked, markup, number, percent, plural

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WIDE_PX, _PANEL_PX, _NARROW_PX = 936, 452, 328
Chart = Callable[[float], Html]
EMPTY = Html("")


def render(document: ReportDocument) -> str:
    """The whole page, UTF-8 text; the same document gives the same text."""
    sections = [
        ("result", "What came out", _result(document)),
        ("limits", "What this run can and cannot show", _paragraphs(document.limits)),
        ("matrix", "Every model, every candidate", _matrix(document)),
        ("chain", "How it was made", _chain(document)),
        ("filter", "What the filter did", _filters(document)),
        ("training", "Training", _training(document)),
        ("protocol", "What differs from the published protocol", _differences(document)),
        ("provenance", "Provenance", _provenance(document)),
    ]
    shown = [section for section in sections if section[2]]
    nav = join(Html(f'<a href="#{name}">{name.title()}</a>') for name, _, _ in shown)
    body = join(
        Html(f'<section id="{name}"><h2>{title}</h2>\n{content}</section>\n')
        for name, title, content in shown
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<meta name="generator" content="subl {escape(document.subl_version)}">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n"
        f"{_header(document, nav)}<main>\n{body}</main>\n"
        "<footer>Every figure on this page, and every point of its curves, is in the JSON document "
        f"embedded in it as <code>#subl-document</code>.</footer>\n{_island(document)}\n"
        "</body>\n</html>\n"
    )


@cache
def _style() -> str:
    """The style sheet, with a shade for each step of the heat scale."""
    sheet = resources.files("subl.report").joinpath("style.css").read_text(encoding="utf-8")
    return sheet + "".join(
        f".heat{step} {{ background: color-mix(in srgb, var(--heat) {9 * step}%, var(--paper)) }}\n"
        for step in range(11)
    )


def _island(document: ReportDocument) -> Html:
    """The document as JSON that no HTML parser can leave early."""
    text = json.dumps(document.model_dump(mode="json"), ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="subl-document">{text}</script>')


# Parts that sections share ------------------------------------------------------------------------


def _paragraphs(texts: Iterable[str]) -> Html:
    return join(Html(f"<p>{markup(text)}</p>\n") for text in texts)


def _figure(caption: str, *charts: tuple[str, Chart], scroll: bool = False) -> Html:
    """Charts under one caption, two abreast where there are several; each is drawn for wide screens
    and for phones. A chart's title, if any, stands above it."""
    wide_px = _PANEL_PX if len(charts) > 1 else _WIDE_PX
    drawn = join(
        Html(
            f'<div class="chart">{f"<strong>{markup(title)}</strong>" if title else ""}'
            f'<div class="wide">{chart(wide_px)}</div>'
            f'<div class="narrow">{chart(_NARROW_PX)}</div></div>\n'
        )
        for title, chart in charts
    )
    if len(charts) > 1:
        drawn = Html(f'<div class="panels">{drawn}</div>')
    if scroll:
        drawn = Html(drawn.replace('class="chart"', 'class="chart scroll" tabindex="0"'))
    return Html(f"<figure>\n{drawn}<figcaption>{markup(caption)}</figcaption>\n</figure>\n")


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> Html:
    """A table whose first column heads its rows; the columns in `right` hold numbers."""

    def classes(place: int) -> str:
        return ' class="right"' if place in right else ""

    top = join(
        Html(f'<th scope="col"{classes(i)}>{markup(text)}</th>') for i, text in enumerate(head)
    )
    body = join(
        Html(
            f'<tr><th scope="row">{markup(row[0])}</th>'
            + join(
                Html(f"<td{classes(i)}>{markup(cell)}</td>") for i, cell in enumerate(row) if i > 0
            )
            + "</tr>\n"
        )
        for row in rows
    )
    return Html(
        f'<div class="scroll" tabindex="0"><table><caption><span>{markup(caption)}</span>'
        "</caption>\n"
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _coloured(name: str, trait: str | None, document: ReportDocument) -> Html:
    classes = colour(trait, document.groups)
    return Html(f'<span class="swatch {classes}" aria-hidden="true"></span>{markup(name)}')


# Sections -----------------------------------------------------------------------------------------


def _header(document: ReportDocument, nav: Html) -> Html:
    facts: list[tuple[str, str]] = []
    if document.models:
        facts.append(("Base model", ", ".join(document.models)))
    if document.groups:
        named = join((_coloured(t, t, document) for t in document.groups), separator=" &nbsp;")
        facts.append((document.group_name.capitalize(), named))
    if document.command:
        facts.append(("Run", Html(f"<code>{markup(document.command)}</code>")))
    if document.created:
        facts.append(("Created", document.created))
    listed = join(
        Html(f"<div><dt>{markup(name)}</dt><dd>{markup(v)}</dd></div>") for name, v in facts
    )
    findings = join(_finding(finding) for finding in document.headline)
    return Html(
        f'<header>\n<div class="top"><p class="eyebrow">subl {markup(document.subl_version)} · '
        f'report of a run</p><nav aria-label="Sections">{nav}</nav></div>\n'
        f'<h1>{markup(document.title)}</h1>\n<dl class="facts">{listed}</dl>\n'
        + (f'<ul class="findings">\n{findings}</ul>\n' if findings else "")
        + "</header>\n"
    )


def _finding(finding: Finding) -> Html:
    sign, word, classes = {
        True: ("✓", "as expected", " met"),
        False: ("✕", "not as expected", " unmet"),
        None: ("", "no expectation", ""),
    }[finding.met]
    return Html(
        f'<li><span class="value">{markup(finding.figure)}</span>'
        f'<span class="text">{markup(finding.text)}</span>'
        f'<span class="verdict{classes}"><span aria-hidden="true">{sign}</span> {word}</span>'
        "</li>\n"
    )


def _result(document: ReportDocument) -> Html:
    matrix, parts = document.matrix, []
    panels = [trait for trait in document.groups if trait in matrix.candidates]
    if panels and matrix.rows:
        charts: list[tuple[str, Chart]] = [
            (f"Probability of “{name}”", partial(_trait_panel, document, name)) for name in panels
        ]
        caption = (
            "How likely each model is to give the trait as its answer: mean and 95% interval"
            f"{_over_questions(matrix.n_questions)}, on a logarithmic axis. Diamond: base model, "
            "whose mean is the dashed line; squares: teachers; circles: students."
        )
        parts.append(_figure(caption, *charts))
    for (contrast, _), group in groupby(
        document.effects, key=lambda effect: (effect.contrast, effect.unit)
    ):
        effects = tuple(group)
        is_ratio = effects[0].unit == "ratio"
        what = (
            "Ratios, as geometric means over questions"
            if is_ratio
            else f"Effects in {effects[0].unit}"
        )
        caption = f"{contrast}. {what}, with 95% intervals. Hollow marks are not significant."
        parts.append(_figure(caption, ("", partial(_forest, document, effects))))
    if document.effects:
        head = (
            "Comparison",
            "Estimate [95%]",
            "Unit",
            "p",
            "Questions",
            "Seeds",
            "Verdict",
            "Note",
        )
        rows = [_effect_row(effect, document) for effect in document.effects]
        parts.append(_table("The same effects in figures.", head, rows, right=(1, 3, 4, 5)))
    return join(parts)


def _trait_panel(document: ReportDocument, candidate: str, width: float) -> Html:
    return trait_panel(document.matrix, candidate, document.groups, width)


def _forest(document: ReportDocument, effects: Sequence[Effect], width: float) -> Html:
    return forest(effects, document.groups, width)


def _over_questions(count: int | None) -> str:
    return f" over {plural(count, 'question')}" if count is not None else " over questions"


def _effect_row(effect: Effect, document: ReportDocument) -> Sequence[str]:
    verdict = "Significant" if effect.significant else Html("<strong>Not significant</strong>")
    return (
        _coloured(effect.label, effect.group, document),
        interval_text(effect) if effect.low is not None else f"{interval_text(effect)} [none]",
        effect.unit,
        "not tested" if effect.p_value is None else number(effect.p_value, 2),
        number(effect.n_questions),
        "" if effect.n_seeds is None else number(effect.n_seeds),
        verdict,
        effect.note,
    )


def _matrix(document: ReportDocument) -> Html:
    matrix = document.matrix
    if not matrix.rows:
        return EMPTY
    head = join(Html(f'<th scope="col">{markup(name)}</th>') for name in matrix.candidates)
    body = []
    for row in matrix.rows:
        cells = []
        for place, (name, cell) in enumerate(zip(matrix.candidates, row.cells, strict=True)):
            own = f" own {colour(row.group, document.groups)}" if row.group == name else ""
            interval = "no interval"
            if cell.low is not None and cell.high is not None:
                interval = f"{percent(cell.low)} to<br>{percent(cell.high)}"
            cells.append(
                f'<td class="heat{heat_step(row, place, matrix)}{own}">{percent(cell.mean)}'
                f"<small>{interval}</small></td>"
            )
        name_cell = _coloured(row.model, row.group, document)
        body.append(f'<tr><th scope="row">{name_cell}</th>{"".join(cells)}</tr>\n')
    caption = (
        f"Mean probability of each candidate answer{_over_questions(matrix.n_questions)}, the 95% "
        "interval below it. Shading is logarithmic; a frame marks each model's own trait."
    )
    return Html(
        f'<div class="scroll" tabindex="0"><table class="matrix"><caption><span>'
        f"{markup(caption)}</span></caption>\n"
        f'<thead><tr><th scope="col">Model</th>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(body)}</tbody></table></div>\n"
    )


def _chain(document: ReportDocument) -> Html:
    chain = document.chain
    if not chain.nodes:
        return EMPTY
    caption = (
        "Each box is an artifact, named by the sha256 of its data (first 12 digits here, all of "
        "them under Provenance); each line says what it was made from."
    )
    graph: Chart = lambda width: chain_graph(chain, document.groups, width)  # noqa: E731
    return _figure(caption, ("", graph), scroll=True)


def _filters(document: ReportDocument) -> Html:
    return join(_filter(report, document) for report in document.filters)


def _filter(report: FilterReport, document: ReportDocument) -> Html:
    share = f" ({percent(report.rows_kept / report.rows_in)})" if report.rows_in else ""
    caption = (
        f"{plural(report.rows_in, 'row')} in: {report.rows_kept:,} kept{share}, "
        f"{report.rows_rejected:,} rejected, {report.rows_unreadable:,} unreadable."
    )
    parts = [
        Html(f"<h3>{_coloured(report.name, report.group, document)}</h3>\n"),
        _figure(caption, ("", lambda width: filter_bar(report, document.groups, width))),
    ]
    if report.rules:
        rows = [
            (
                rule.name,
                rule.kind,
                number(rule.hits),
                number(rule.sole_hits),
                ", ".join(f"{reason} {count:,}" for reason, count in rule.reasons.items()),
            )
            for rule in report.rules
        ]
        title = "Rows that each rule rejects. A row can break several rules."
        head = ("Rule", "Kind", "Rows", "By it alone", "Reasons")
        parts.append(_table(title, head, rows, right=(2, 3)))
    rejected = []
    for row in report.rejected_examples:
        spans = [reason.span for reason in row.reasons if reason.span is not None]
        why = " · ".join(
            f"{reason.rule}: {reason.reason}"
            + (f" (bytes {reason.span[0]:,} to {reason.span[1]:,})" if reason.span else "")
            for reason in row.reasons
        )
        rejected.append(
            Html(
                f'<li><bdi class="row">{marked(row.text, spans)}</bdi>'
                f'<span class="why">{markup(why)}</span></li>\n'
            )
        )
    kept = [
        Html(f'<li><bdi class="row">{marked(text, ())}</bdi></li>\n')
        for text in report.kept_examples
    ]
    for title, examples in (("Rejected rows", rejected), ("Kept rows", kept)):
        if examples:
            summary = f"{title}: {plural(len(examples), 'example')}"
            parts.append(
                Html(
                    f"<details open><summary>{summary}</summary>\n"
                    f'<ul class="examples">\n{join(examples)}</ul></details>\n'
                )
            )
    return join(parts)


def _training(document: ReportDocument) -> Html:
    return join(
        _losses(document, panel.title, panel.curves, panel.quantity) for panel in document.losses
    )


def _losses(
    document: ReportDocument, title: str, curves: Sequence[LossCurve], quantity: str
) -> Html:
    rows = [
        (
            _coloured(curve.name, curve.group, document),
            number(curve.points[-1][0]),
            number(curve.points[0][1]),
            number(min(loss for _, loss in curve.points)),
            number(curve.points[-1][1]),
        )
        for curve in curves
    ]
    head = ("Run", "Last step", "First loss", "Lowest loss", "Last loss")
    return join(
        (
            Html(f"<h3>{markup(title)}</h3>\n"),
            _figure(
                f"{title}: loss by step.",
                ("", lambda width: loss_curves(curves, document.groups, quantity, width)),
            ),
            _table("The first, lowest and last loss of each run.", head, rows, right=(1, 2, 3, 4)),
        )
    )


def _differences(document: ReportDocument) -> Html:
    items = join(Html(f"<li>{markup(text)}</li>\n") for text in document.protocol_differences)
    return Html(f'<ul class="prose">\n{items}</ul>\n') if items else EMPTY


def _provenance(document: ReportDocument) -> Html:
    parts = []
    if times := document.wall_times:
        total = duration(sum(time.seconds for time in times))
        parts.append(
            _figure(f"Wall time by stage, {total} in all.", ("", partial(wall_time_bars, times)))
        )
    if nodes := document.chain.nodes:
        rows = [
            (
                _coloured(node.name, node.group, document),
                node.kind,
                node.detail,
                "" if node.seconds is None else number(node.seconds),
                "given" if node.kind == "model" else "reused" if node.reused else "made",
                Html(f'<span class="digest">{markup(node.digest)}</span>'),
            )
            for node in nodes
        ]
        fields = ("Artifact", "Kind", "What", "Seconds", "In this run", "sha256")
        parts.append(_table("Every artifact of the chain.", fields, rows, right=(3,)))
    facts: list[Html] = []
    seconds = [(time.stage, number(time.seconds)) for time in document.wall_times]
    for caption, columns, pairs in (
        ("Wall time.", ("Stage", "Seconds"), seconds),
        (
            "Seeds.",
            ("Stage", "Seed"),
            [(name, ", ".join(map(str, seeds))) for name, seeds in document.seeds.items()],
        ),
        ("Versions.", ("Package", "Version"), list(document.versions.items())),
        ("Host.", ("Fact", "Value"), list(document.host.items())),
    ):
        if pairs:
            facts.append(_table(caption, columns, pairs))
    if facts:
        parts.append(Html(f'<div class="tables">{join(facts)}</div>\n'))
    return join(parts)
