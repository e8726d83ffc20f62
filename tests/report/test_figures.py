from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.report import figures, panels, vega
from subl.report.document import Effect, LossCurve, LossPanel, Probability, WallTime
from subl.report.text import Html

from .sample import (
    GROUPS,
    large_document,
    sample_bars,
    sample_curves,
    sample_document,
    sample_doses,
    sample_questions,
)

DOCUMENT = sample_document()
LARGE = large_document().matrices[0]


def draw_all(width: float) -> dict[str, vega.Figure]:
    return {
        "filter": figures.filter_bars(DOCUMENT.filters, GROUPS, width),
        "forest nats": figures.forest(DOCUMENT.effects[:3], GROUPS, width),
        "forest ratio": figures.forest(DOCUMENT.effects[3:], GROUPS, width),
        "losses": figures.loss_curves(DOCUMENT.losses[0], GROUPS, width),
        "panel": figures.trait_panel(DOCUMENT.matrices[0], "owl", GROUPS, width),
        "own": figures.own_panel(LARGE, LARGE.rows[2:30], ("owl", "cat", "wolf"), width),
        "questions": panels.question_dots(sample_questions(), GROUPS, width),
        "times": figures.wall_time_bars(DOCUMENT.wall_times, width),
        "bars": panels.share_bars(sample_bars(), width),
        "curves": panels.log_curves(sample_curves(), width),
        "doses": panels.dose_lines(sample_doses(), GROUPS, width),
    }


def parse(svg: Html) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def placed(
    root: ElementTree.Element, tag: str
) -> Iterator[tuple[ElementTree.Element, float, float]]:
    """Every element of a kind, with the place that its own and outer translations give it."""

    def walk(
        node: ElementTree.Element, x: float, y: float
    ) -> Iterator[tuple[ElementTree.Element, float, float]]:
        if match := re.match(r"translate\(([^,]+),([^)]+)\)", node.get("transform", "")):
            x, y = x + float(match[1]), y + float(match[2])
        if node.tag == tag:
            yield node, x, y
        for child in node:
            yield from walk(child, x, y)

    return walk(root, 0.0, 0.0)


@pytest.mark.parametrize("width", [328, 936])
@pytest.mark.parametrize("name", list(draw_all(936)))
def test_figures_are_well_formed_named_and_within_their_frame(name: str, width: float) -> None:
    root = parse(vega.svg(draw_all(width)[name]))
    assert root.get("role") == "img" and root.get("aria-label")
    left, top, right, bottom = map(float, str(root.get("viewBox")).split())
    assert right == width
    texts = list(placed(root, "text"))
    assert texts
    for _, x, y in texts:
        assert left - 1 <= x <= right + 1 and top <= y <= bottom
    for _, x, y in placed(root, "path"):
        assert left - 1 <= x <= right + 1 and top <= y <= bottom
    assert not [node for node in root.iter() if node.get("id") or node.get("class")]


def test_what_vega_adds_for_itself_is_cut_from_tags_alone() -> None:
    hostile = 'role="x" aria-label="y" 1.2345 </svg><script>alert(1)</script>\u202e\x00'
    root = parse(vega.svg(figures.wall_time_bars([WallTime(stage=hostile, seconds=1)], 4000)))
    shown = hostile.replace("\u202e", "⟨U+202E⟩").replace("\x00", "⟨U+0000⟩")
    assert shown in ["".join(node.itertext()) for node in root.iter("text")]
    assert root.attrib["aria-label"].startswith(f"Wall time: {shown} 1.0 s")
    assert not list(root.iter("script"))
    assert not [node for node in root.iter() if "aria-roledescription" in node.attrib]


def test_colours_are_never_shared_by_groups() -> None:
    groups = [f"g{place}" for place in range(9)]
    drawn = [vega.colour(group, groups) for group in groups]
    assert len(set(drawn)) == 7 and drawn[6:] == ["var(--cn)"] * 3
    assert vega.colour(None, groups) == vega.colour("unknown", groups) == "var(--cn)"


def test_each_role_has_its_mark_and_the_first_without_group_is_the_reference() -> None:
    matrix = DOCUMENT.matrices[0]
    assert figures.shapes(matrix) == {"base": "diamond", "teacher": "square", "student": "circle"}
    assert [row.model for row in figures.references(matrix)] == ["base"]
    students = matrix.model_copy(update={"rows": matrix.rows[3:]})
    assert figures.shapes(students) == {"student": "diamond"}
    assert figures.references(students) == []
    assert "stroke-dasharray" not in vega.svg(figures.trait_panel(students, "owl", GROUPS, 452))


@given(st.floats(1e-9, 1), st.floats(1.6, 1e9), st.integers(2, 20))
def test_log_ticks_are_inside_and_few(low: float, factor: float, most: int) -> None:
    ticks = vega.log_ticks((low, low * factor), most)
    assert all(low * 0.99 <= tick <= low * factor * 1.01 for tick in ticks)
    assert len(ticks) <= most and (factor < 10 or len(ticks) > 1)
    if factor > 10:
        assert all(float(f"{tick:.0e}") == tick and f"{tick:e}"[0] in "125" for tick in ticks)


def test_a_mark_stands_at_its_value_and_its_interval_around_it() -> None:
    effects = [
        Effect(contrast="c", label="a", estimate=10, low=1, high=100, unit="ratio", n_questions=9,
               significant=True)
    ]  # fmt: skip
    root = parse(vega.svg(figures.forest(effects, (), 936)))
    marks = [x for node, x, _ in placed(root, "path") if node.get("stroke") == "var(--paper)"]
    ticks = {"".join(node.itertext()): x for node, x, _ in placed(root, "text")}
    assert marks == [pytest.approx(ticks["10"], abs=1)]
    (whisker,) = [(node, x) for node, x, _ in placed(root, "line")
                  if node.get("stroke") == "var(--cn)"]  # fmt: skip
    assert whisker[1] == pytest.approx(ticks["1"], abs=1)
    assert whisker[1] + float(whisker[0].attrib["x2"]) == pytest.approx(ticks["100"], abs=1)


def test_a_zero_probability_is_drawn_at_the_edge_not_lost() -> None:
    rows = [
        row.model_copy(update={"cells": (Probability(mean=0.0, low=0.0, high=0.01),) * 10})
        for row in DOCUMENT.matrices[0].rows
    ]
    matrix = DOCUMENT.matrices[0].model_copy(update={"rows": tuple(rows)})
    svg = vega.svg(figures.trait_panel(matrix, "owl", GROUPS, 452))
    assert svg.count(">0%</text>") == 5 + 1  # as the axis, which is not logarithmic then
    marks = [x for node, x, _ in placed(parse(svg), "path") if node.get("stroke-width") == "2"]
    assert len(marks) == 5 and len(set(marks)) == 1
    assert not re.search("NaN|Infinity", svg)


@pytest.mark.parametrize("width", [328, 936])
def test_what_is_not_significant_says_so_and_is_hollow(width: float) -> None:
    effect = Effect(contrast="c", label="a", estimate=0.1, n_questions=9, significant=False)
    sure = effect.model_copy(update={"significant": True})
    hollow = 'fill="var(--paper)" stroke="var(--cn)"'
    svg = vega.svg(figures.forest([effect], (), width))
    assert "not significant" in svg and hollow in svg
    assert 'stroke="var(--cn)" stroke-width="2"/></g><g><path' not in svg  # no whisker
    assert hollow not in vega.svg(figures.forest([sure], (), width))


@pytest.mark.parametrize(
    "points",
    [
        ((0, 0.0),),
        ((1, 2.0), (2, 2.0)),
        ((1, -1.0), (9, 1.0)),
        ((1, -2.0), (2, -1.0)),
        ((1, 9.0), (2, 1e-9)),
    ],
)
def test_one_point_and_flat_curves_are_drawn(points: tuple[tuple[int, float], ...]) -> None:
    panel = LossPanel(title="t", curves=(LossCurve(name="a", points=points),))
    figure = figures.loss_curves(panel, (), 328)
    low, high = figure.spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert all(low <= loss <= high for _, loss in points) and low < high
    svg = vega.svg(figure)
    assert 'var(--cn)"' in svg and not re.search("NaN|Infinity", svg)


def test_many_curves_are_told_apart_by_colour_alone() -> None:
    for count, named in ((figures.MOST_NAMED_CURVES, True), (54, False)):
        curves = tuple(LossCurve(name=f"run {n}", group="owl", points=((1, n), (2, 1.0)))
                       for n in range(count))  # fmt: skip
        svg = vega.svg(figures.loss_curves(LossPanel(title="t", curves=curves), GROUPS, 936))
        assert svg.count('stroke="var(--c0)"') == count
        assert (">run 3</text>" in svg) is named


def test_end_labels_do_not_overlap() -> None:
    assert vega.apart([100, 101, 102], 17, 200) == pytest.approx([84, 101, 118], abs=0.5)
    assert vega.apart([10, 90], 17, 200) == [10, 90]
    low = vega.apart([206.0] * 10, 17, 206)
    assert low == pytest.approx([206 - 17 * n for n in range(9, -1, -1)], abs=1)


def test_the_parts_of_a_filter_are_all_its_rows_and_fill_its_bar() -> None:
    for parts in figures.filter_parts(DOCUMENT.filters, GROUPS):
        assert sum(rows for _, rows, _ in parts) == 256
    root = parse(vega.svg(figures.filter_bars(DOCUMENT.filters, GROUPS, 328)))
    boxes = [node.attrib["d"] for node in root.iter("path") if "--" in node.get("fill", "")]
    widths = [float(re.findall(r"h([\d.]+)", box)[0]) for box in boxes]
    assert len(boxes) == 14
    assert sum(widths) == pytest.approx(2 * 328, abs=14 * 1.6)


def test_of_many_stages_the_longest_are_drawn() -> None:
    times = [WallTime(stage=f"s{n}", seconds=n) for n in range(200)]
    svg = vega.svg(figures.wall_time_bars(times, 328))
    assert ">s199<" in svg and ">s160<" in svg and ">s159<" not in svg


def test_nothing_is_loaded_for_a_figure() -> None:
    figure = draw_all(328)["times"]
    spec = {**figure.spec, "data": {"url": "http://localhost:1/data.json"}}
    with pytest.raises(ValueError, match="not allowed"):
        vega.svg(figure._replace(spec=spec))


def test_a_name_stands_at_the_end_of_its_curve() -> None:
    """Where Vega draws it, but not below the plot."""
    curves = tuple(LossCurve(name=f"at {end}", points=((1, 100.0), (2, end)))
                   for end in (0.1, 1.0, 10.0))  # fmt: skip
    root = parse(vega.svg(figures.loss_curves(LossPanel(title="t", curves=curves), (), 936)))
    ys = {"".join(node.itertext()): y for node, _, y in placed(root, "text")}
    for end in (0.1, 1.0, 10.0):
        assert ys[f"at {end}"] == pytest.approx(ys[f"{end:g}"], abs=5)
    assert math.isclose(ys["0.1"] - ys["1"], ys["1"] - ys["10"], abs_tol=0.2)


def test_a_bar_ends_at_its_share_and_what_others_found_is_a_mark() -> None:
    root = parse(vega.svg(panels.share_bars(sample_bars(), 936)))
    ticks = {"".join(node.itertext()): x for node, x, _ in placed(root, "text")}
    per_share = (ticks["60%"] - ticks["0%"]) / 0.6
    boxes = [str(node.get("d")) for node, _, _ in placed(root, "path")
             if "var(--c0)" in str(node.get("fill"))]  # fmt: skip
    (width,) = (float(re.findall(r"h([-\d.]+)", box)[0]) for box in boxes)
    assert abs(width) == pytest.approx(0.6 * per_share, abs=1)
    (mark,) = [x for node, x, _ in placed(root, "path") if node.get("stroke") == "var(--ink)"]
    assert mark == pytest.approx(ticks["0%"] + 0.53 * per_share, abs=1)


def test_curves_of_controls_are_dashed_and_spoken() -> None:
    figure = panels.log_curves(sample_curves(), 936)
    assert "shared from 1.00 × 10⁻⁶ to 0.01" in figure.label
    assert vega.svg(figure).count("stroke-dasharray") == 1
