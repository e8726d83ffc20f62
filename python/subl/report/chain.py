"""The chain of artifacts as a drawing: boxes and the curves between them, in pixels.

Up to `MOST_BOXES` artifacts have a box each. Of more, those of one stage at one depth share a box:
at one depth, because a second generation's students stand behind the first's, and one box for both
would make a circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from subl.report.document import Chain, ChainNode
from subl.report.layout import GAP, depths, layered

MOST_BOXES = 40
WIDTH, HEIGHT = 136.0, 82.0


@dataclass(frozen=True)
class Box:
    """`x` and `y` are its upper left corner. `node` stands for `count` artifacts."""

    node: ChainNode
    count: int
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """`curves` are (path, the group that it comes from)."""

    width: float
    height: float
    boxes: Sequence[Box]
    curves: Sequence[tuple[str, str | None]]


def draw(chain: Chain, width: float) -> Drawing:
    """From left to right, or from top to bottom where that takes less of the width."""
    stacks = _stacks(chain)
    stack_of = {node.id: name for name, nodes in stacks.items() for node in nodes}
    edges = dict.fromkeys((stack_of[edge.source], stack_of[edge.target]) for edge in chain.edges)
    depth_of = depths(list(stacks), list(edges))
    broad = max(Counter(depth_of.values()).values(), default=0) * (WIDTH + GAP)
    long = (1 + max(depth_of.values(), default=0)) * (WIDTH + 20)
    down = width < 600 or (long > width and broad < long)
    layout = layered(list(stacks), list(edges), WIDTH if down else HEIGHT)
    along, gap = (HEIGHT, 26.0) if down else (WIDTH, 20.0)
    if not down and layout.layers > 1:
        gap = max(gap, min(60.0, (width - 2 - layout.layers * along) / (layout.layers - 1)))

    def at(along_px: float, across_px: float) -> str:
        return " ".join(f"{each:.1f}" for each in _turned((along_px, across_px), down))

    curves = []
    for route in layout.routes:
        places = [(1 + spot[1] * (along + gap), 1 + layout.centres[spot]) for spot in route]
        path = f"M{at(places[0][0] + along, places[0][1])}"
        for (start, before), (end, after) in pairwise(places):
            half = end - gap / 2
            path += f"L{at(start + along, before)}C{at(half, before)} {at(half, after)} "
            path += at(end, after)
        curves.append((path, _group(stacks[route[0][0]])))
    boxes = []
    for name, nodes in stacks.items():
        spot = (name, layout.layer_of[name])
        middle = 1 + spot[1] * (along + gap) + along / 2, 1 + layout.centres[spot]
        x, y = _turned(middle, down)
        boxes.append(Box(_node(nodes), len(nodes), x - WIDTH / 2, y - HEIGHT / 2))
    size = 2 + layout.layers * (along + gap) - gap, layout.breadth + 2
    return Drawing(*_turned(size, down), boxes, curves)


def _turned(place: tuple[float, float], down: bool) -> tuple[float, float]:
    return place[::-1] if down else place


def _stacks(chain: Chain) -> dict[str, list[ChainNode]]:
    """The artifacts by the box that they share; a box of one has its artifact's name."""
    if len(chain.nodes) <= MOST_BOXES:
        return {node.id: [node] for node in chain.nodes}
    edges = [(edge.source, edge.target) for edge in chain.edges]
    depth_of = depths([node.id for node in chain.nodes], edges)
    stacks: dict[str, list[ChainNode]] = {}
    for node in chain.nodes:
        stacks.setdefault(f"{depth_of[node.id]} {node.kind} {node.stage}", []).append(node)
    return stacks


def _group(nodes: Sequence[ChainNode]) -> str | None:
    groups = {node.group for node in nodes}
    return groups.pop() if len(groups) == 1 else None


def _node(nodes: Sequence[ChainNode]) -> ChainNode:
    """One for all of them: their number, groups and time."""
    if len(nodes) == 1:
        return nodes[0]
    seconds = [node.seconds for node in nodes if node.seconds is not None]
    groups = dict.fromkeys(node.group for node in nodes if node.group is not None)
    return nodes[0].model_copy(
        update={
            "name": f"{nodes[0].stage} ×{len(nodes)}",
            "group": _group(nodes),
            "seconds": sum(seconds) if seconds else None,
            "detail": ", ".join(groups),
            "reused": all(node.reused for node in nodes),
        }
    )
