"""Where the nodes of a chain go: a layered drawing after Sugiyama, Tagawa and Toda (1981).

A node's layer is its longest distance from a source. An edge over several layers runs through a
thin waypoint in each layer between, shared by all edges of its source, so that no edge crosses a
node. Order within a layer comes from barycentre sweeps, positions from least squares under the
minimum distances (pool adjacent violators). Everything is deterministic: ties keep input order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

Spot = tuple[str, int]
"""A place in the drawing: (node, its own layer), or (source of an edge, a layer it passes)."""


@dataclass(frozen=True)
class Layout:
    """`layers`: how many; `breadth`: extent across them; `centres`: across, of every spot;
    `routes`: for each edge, the spots it visits, source first."""

    layers: int
    breadth: float
    layer_of: Mapping[str, int]
    centres: Mapping[Spot, float]
    routes: Sequence[Sequence[Spot]]


def layered(
    nodes: Sequence[str],
    edges: Sequence[tuple[str, str]],
    node_extent: float,
    waypoint_extent: float,
    gap: float,
) -> Layout:
    """Lay out a graph without cycles; extents and `gap` are distances across the layers."""
    sources: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        sources[target].append(source)
    layer_of: dict[str, int] = {}
    for node in TopologicalSorter(sources).static_order():
        layer_of[node] = 1 + max((layer_of[source] for source in sources[node]), default=-1)

    routes = [
        [*((source, layer) for layer in range(layer_of[source], layer_of[target])),
         (target, layer_of[target])]
        for source, target in edges
    ]  # fmt: skip
    layers: list[list[Spot]] = [[] for _ in range(1 + max(layer_of.values(), default=-1))]
    for spot in [*((node, layer_of[node]) for node in nodes), *(s for r in routes for s in r)]:
        if spot not in layers[spot[1]]:
            layers[spot[1]].append(spot)
    neighbours: dict[Spot, set[Spot]] = {spot: set() for layer in layers for spot in layer}
    for route in routes:
        for one, other in zip(route, route[1:], strict=False):
            neighbours[one].add(other)
            neighbours[other].add(one)

    extent = {
        spot: node_extent if layer_of[spot[0]] == spot[1] else waypoint_extent
        for spot in neighbours
    }
    centres = {spot: float(place) for layer in layers for place, spot in enumerate(layer)}

    def pull(spot: Spot) -> float:
        """Mean position of the neighbours (in a fixed order, so that sums don't vary)."""
        around = sorted(centres[other] for other in neighbours[spot])
        return sum(around) / len(around) if around else centres[spot]

    for _ in range(8):
        for layer in [*layers, *reversed(layers)]:
            layer.sort(key=pull)
            middle = (len(layer) - 1) / 2
            centres.update({spot: place - middle for place, spot in enumerate(layer)})
    for layer in layers:
        centres.update(_spread(layer, {spot: 0.0 for spot in layer}, extent, gap))
    for _ in range(24):
        for layer in [*layers, *reversed(layers)]:
            centres.update(_spread(layer, {spot: pull(spot) for spot in layer}, extent, gap))

    top = min((centres[spot] - extent[spot] / 2 for spot in centres), default=0.0)
    bottom = max((centres[spot] + extent[spot] / 2 for spot in centres), default=0.0)
    moved = {spot: centre - top for spot, centre in centres.items()}
    return Layout(len(layers), bottom - top, layer_of, moved, routes)


def _spread(
    layer: Sequence[Spot], wanted: Mapping[Spot, float], extent: Mapping[Spot, float], gap: float
) -> dict[Spot, float]:
    """Centres nearest to `wanted` that keep the layer's order and don't overlap."""
    shift = [0.0]
    for one, other in zip(layer, layer[1:], strict=False):
        shift.append(shift[-1] + (extent[one] + extent[other]) / 2 + gap)
    pools: list[tuple[float, int]] = []
    for spot, offset in zip(layer, shift, strict=False):
        mean, size = wanted[spot] - offset, 1
        while pools and pools[-1][0] > mean:
            last_mean, last_size = pools.pop()
            mean = (mean * size + last_mean * last_size) / (size + last_size)
            size += last_size
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    return {spot: mean + off for spot, mean, off in zip(layer, flat, shift, strict=False)}
