from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.report.chain import HEIGHT, MOST_BOXES, WIDTH, draw
from subl.report.document import Chain, ChainEdge, ChainNode
from subl.report.layout import GAP, WAYPOINT_EXTENT, layered

from .sample import large_document, sample_document


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
    layout = layered(nodes, edges, node_extent=80)
    extent = {s: 80 if layout.layer_of[s[0]] == s[1] else WAYPOINT_EXTENT for s in layout.centres}
    for one, other in combinations(layout.centres, 2):
        if one[1] == other[1]:
            least = (extent[one] + extent[other]) / 2 + GAP
            assert abs(layout.centres[one] - layout.centres[other]) >= least - 1e-6
    for (source, target), route in zip(edges, layout.routes, strict=True):
        assert route[0] == (source, layout.layer_of[source])
        assert route[-1] == (target, layout.layer_of[target])
        assert all(after[1] == before[1] + 1 for before, after in pairwise(route))
    assert all(-1e-6 <= c <= layout.breadth + 1e-6 for c in layout.centres.values())
    assert layout == layered(nodes, edges, node_extent=80)


def test_only_the_two_edges_that_must_do_cross_in_the_sample_chain() -> None:
    chain = sample_document().chain
    layout = layered(
        [node.id for node in chain.nodes], [(e.source, e.target) for e in chain.edges], 82
    )
    steps = {step for route in layout.routes for step in pairwise(route)}
    crossings = [
        {(a, b), (c, d)}
        for (a, b), (c, d) in combinations(sorted(steps), 2)
        if a[1] == c[1] and a != c and b != d
        if (layout.centres[a] < layout.centres[c]) != (layout.centres[b] < layout.centres[d])
    ]
    assert len(crossings) == 1, crossings


@pytest.mark.parametrize("width", [328, 936])
@pytest.mark.parametrize("document", [sample_document(), large_document()], ids=["small", "large"])
def test_boxes_are_inside_and_apart(document: object, width: float) -> None:
    drawing = draw(document.chain, width)  # type: ignore[attr-defined]
    for one, other in combinations(drawing.boxes, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT
    for box in drawing.boxes:
        assert 0 <= box.x <= drawing.width - WIDTH and 0 <= box.y <= drawing.height - HEIGHT


def test_a_chain_that_is_too_wide_goes_down_and_a_phone_always_does() -> None:
    short, long = sample_document().chain, large_document().chain
    assert draw(short, 936).width <= 936 < draw(long, 936).height
    assert draw(long, 936).width <= 936
    assert draw(short, 328).height > draw(short, 328).width


def test_many_artifacts_share_a_box_by_stage_and_depth() -> None:
    drawing = draw(large_document().chain, 936)
    names = [box.node.name for box in drawing.boxes]
    hop = ["numbers ×18", "kept ×18", "student ×18"]
    assert sorted(names) == sorted(["base ×2", "teacher ×9", *hop * 3, *["answers ×9"] * 3])
    assert sum(box.count for box in drawing.boxes) == 200
    teachers = next(box.node for box in drawing.boxes if box.node.name == "teacher ×9")
    assert (teachers.group, teachers.detail, teachers.reused) == (None, "owl, cat, wolf", True)
    assert teachers.seconds == sum(
        node.seconds or 0 for node in large_document().chain.nodes if node.stage == "teacher"
    )
    assert len(drawing.curves) < 30


def test_as_many_artifacts_as_fit_have_a_box_each() -> None:
    nodes = [
        ChainNode(id=f"n{n}", kind="k", name=f"n{n}", stage="s", group="owl", digest="0" * 64)
        for n in range(MOST_BOXES + 1)
    ]
    edges = tuple(ChainEdge(source="n0", target=node.id) for node in nodes[1:])
    drawing = draw(Chain(nodes=tuple(nodes[:-1]), edges=edges[:-1]), 936)
    assert [box.node.name for box in drawing.boxes] == [node.name for node in nodes[:-1]]
    merged = draw(Chain(nodes=tuple(nodes), edges=edges), 936)
    assert [(box.node.name, box.node.group) for box in merged.boxes] == [
        ("n0", "owl"), (f"s ×{MOST_BOXES}", "owl"),
    ]  # fmt: skip
    assert len(merged.curves) == 1
