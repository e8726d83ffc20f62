from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.report import charts
from subl.report.document import Chain, ChainNode, Effect, LossCurve, Probability, WallTime
from subl.report.layout import layered
from subl.report.text import Html, text_width

from .sample import GROUPS, sample_document

SVG = "{http://www.w3.org/2000/svg}"
DOCUMENT = sample_document()


def draw_all(width: float) -> dict[str, Html]:
    nats, ratios = DOCUMENT.effects[:3], DOCUMENT.effects[3:]
    return {
        "chain": charts.chain_graph(DOCUMENT.chain, GROUPS, width),
        "filter": charts.filter_bar(DOCUMENT.filters[0], GROUPS, width),
        "forest nats": charts.forest(nats, GROUPS, width),
        "forest ratio": charts.forest(ratios, GROUPS, width),
        "losses": charts.loss_curves(DOCUMENT.losses[0].curves, GROUPS, "KL", width),
        "panel": charts.trait_panel(DOCUMENT.matrix, "owl", GROUPS, width),
        "times": charts.wall_time_bars(DOCUMENT.wall_times, width),
    }


@pytest.mark.parametrize("width", [328, 936])
@pytest.mark.parametrize("name", list(draw_all(936)))
def test_charts_are_well_formed_named_and_within_their_frame(name: str, width: float) -> None:
    svg = draw_all(width)[name]
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-label")
    left, top, right, bottom = map(float, str(root.get("viewBox")).split())
    for text in root.iter(f"{SVG}text"):
        assert left <= float(text.attrib["x"]) <= right
        assert top <= float(text.attrib["y"]) <= bottom
    for mark in root.iter(f"{SVG}circle"):
        assert left <= float(mark.attrib["cx"]) <= right
    if name != "chain":  # Which scrolls where it must be wider.
        assert right == width


def test_chart_text_is_escaped() -> None:
    hostile = '</svg><script>alert("x")</script>\u202e\x00'
    time = WallTime(stage=hostile, seconds=1)
    root = ElementTree.fromstring(charts.wall_time_bars([time], 936))
    assert not list(root.iter(f"{SVG}script"))
    assert root.attrib["aria-label"].startswith(
        'Wall time: </svg><script>alert("x")</script>⟨U+202E⟩'
    )


def test_a_mark_stands_at_its_value() -> None:
    axis = charts.Axis(1e-4, 1, 100, 300, log=True)
    assert (axis(1e-4), axis(1e-2), axis(1)) == pytest.approx((100, 200, 300))
    assert axis(0) == 100 and axis(7) == 300
    line = charts.Axis(-1, 1, 300, 100)
    assert (line(-1), line(0), line(1)) == pytest.approx((300, 200, 100))


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e6), st.integers(60, 900))
def test_linear_ticks_are_inside_few_and_even(low: float, extent: float, width: int) -> None:
    axis = charts.Axis(low, low + extent, 0, width)
    ticks = axis.ticks(50)
    slack = 1e-6 * extent + 1e-9 * abs(low)
    assert all(low - slack <= tick <= low + extent + slack for tick in ticks)
    assert 2 <= len(ticks) <= max(2, width / 50) + 3
    steps = [after - before for before, after in pairwise(ticks)]
    assert steps == pytest.approx([max(steps, default=0)] * len(steps))


@given(st.floats(1e-9, 1), st.floats(1.6, 1e9), st.integers(60, 900))
def test_log_ticks_are_inside_and_few(low: float, factor: float, width: int) -> None:
    axis = charts.Axis(low, low * factor, 0, width, log=True)
    ticks = axis.ticks(50)
    assert all(low * 0.99 <= tick <= low * factor * 1.01 for tick in ticks)
    assert 2 <= len(ticks) <= max(2, width / 50) + 3


def test_a_zero_probability_is_drawn_at_the_edge_not_lost() -> None:
    rows = [
        row.model_copy(update={"cells": (Probability(mean=0.0, low=0.0, high=0.01),) * 10})
        for row in DOCUMENT.matrix.rows
    ]
    matrix = DOCUMENT.matrix.model_copy(update={"rows": tuple(rows)})
    assert charts.trait_panel(matrix, "owl", GROUPS, 452).count(">0%</text>") == 5
    assert charts.heat_step(rows[0], 0, matrix) == 0


def test_what_is_not_significant_says_so_and_is_hollow() -> None:
    effect = Effect(contrast="c", label="a", estimate=0.1, n_questions=9, significant=False)
    for width in (328, 936):
        svg = charts.forest([effect], (), width)
        assert "not significant" in ElementTree.tostring(ElementTree.fromstring(svg), "unicode")
        assert 'class="mark hollow cn"' in svg
        assert "whisker" not in svg


def test_one_point_and_flat_curves_are_drawn() -> None:
    for points in (((0, 0.0),), ((1, 2.0), (2, 2.0)), ((1, -1.0), (9, 1.0))):
        svg = charts.loss_curves([LossCurve(name="a", points=points)], (), "loss", 328)
        ElementTree.fromstring(svg)
        assert "polyline" in svg


def test_end_labels_do_not_overlap() -> None:
    assert charts._apart([100, 101, 102], 17) == pytest.approx([84, 101, 118], abs=0.5)
    assert charts._apart([10, 90], 17) == [10, 90]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    nodes = [f"n{index}" for index in range(draw(st.integers(1, 12)))]
    pairs = list(combinations(nodes, 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=24)) if pairs else []
    return nodes, edges


@given(graphs())
def test_layout_keeps_nodes_apart_and_edges_forward(
    graph: tuple[list[str], list[tuple[str, str]]],
) -> None:
    nodes, edges = graph
    layout = layered(nodes, edges, node_extent=80, waypoint_extent=6, gap=12)
    extent = {s: 80 if layout.layer_of[s[0]] == s[1] else 6 for s in layout.centres}
    for one, other in combinations(layout.centres, 2):
        if one[1] == other[1]:
            least = (extent[one] + extent[other]) / 2 + 12
            assert abs(layout.centres[one] - layout.centres[other]) >= least - 1e-6
    for (source, target), route in zip(edges, layout.routes, strict=True):
        assert route[0] == (source, layout.layer_of[source])
        assert route[-1] == (target, layout.layer_of[target])
        assert all(after[1] == before[1] + 1 for before, after in pairwise(route))
    assert all(-1e-6 <= c <= layout.breadth + 1e-6 for c in layout.centres.values())
    assert layout == layered(nodes, edges, node_extent=80, waypoint_extent=6, gap=12)


@given(
    st.sampled_from(["model", "teach", "generate", "filter", "distill", "eval"]),
    st.floats(1e-3, 3e6),
    st.booleans(),
)
def test_a_stage_and_its_time_stand_apart(kind: str, seconds: float, reused: bool) -> None:
    node = ChainNode(id="a", kind=kind, name="n", digest="0" * 64, seconds=seconds, reused=reused)
    root = ElementTree.fromstring(charts.chain_graph(Chain(nodes=(node,), edges=()), (), 936))
    stage, time, *_ = root.iter(f"{SVG}text")
    left, right = float(stage.attrib["x"]), float(time.attrib["x"])
    widths = [text_width(str(each.text), charts.SMALL_PX) for each in (stage, time)]
    assert left + widths[0] + 6 <= right - widths[1]


def test_only_the_two_edges_that_must_do_cross_in_the_sample_chain() -> None:
    chain = DOCUMENT.chain
    layout = layered(
        [node.id for node in chain.nodes], [(e.source, e.target) for e in chain.edges], 82, 6, 12
    )
    steps = {step for route in layout.routes for step in pairwise(route)}
    crossings = [
        {(a, b), (c, d)}
        for (a, b), (c, d) in combinations(sorted(steps), 2)
        if a[1] == c[1] and a != c and b != d
        if (layout.centres[a] < layout.centres[c]) != (layout.centres[b] < layout.centres[d])
    ]
    assert len(crossings) == 1, crossings
