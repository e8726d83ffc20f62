"""Where the nodes of a chain go: a layered drawing after Sugiyama, Tagawa and Toda (1981).

A node's layer is its depth. An edge over several layers runs through a thin waypoint in each layer
between, shared by all edges of its source, so that no edge crosses a node. Order within a layer
comes from barycentre sweeps, positions from least squares under the minimum distances (pool
adjacent violators). Everything is deterministic: ties keep input order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

WAYPOINT_EXTENT, GAP = 6.0, 12.0
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


def depths(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each node's longest distance from a source, of a graph without cycles."""
    sources: dict[str, list[str]] = {node: [] for node in nodes}
    for source, target in edges:
        sources[target].append(source)
    depth_of: dict[str, int] = {}
    for node in TopologicalSorter(sources).static_order():
        depth_of[node] = 1 + max((depth_of[source] for source in sources[node]), default=-1)
    return depth_of


def layered(nodes: Sequence[str], edges: Sequence[tuple[str, str]], node_extent: float) -> Layout:
    """Lay out a graph without cycles, whose nodes take up `node_extent` across the layers."""
    layer_of = depths(nodes, edges)
    routes = [
        [*((source, layer) for layer in range(layer_of[source], layer_of[target])),
         (target, layer_of[target])]
        for source, target in edges
    ]  # fmt: skip
    layers: list[list[Spot]] = [[] for _ in range(1 + max(layer_of.values(), default=-1))]
    for spot in [*((node, layer_of[node]) for node in nodes), *(s for r in routes for s in r)]:
        if spot not in layers[spot[1]]:
            layers[spot[1]].append(spot)
    neighbours: dict[Spot, list[Spot]] = {spot: [] for layer in layers for spot in layer}
    for route in routes:
        for one, other in pairwise(route):
            if other not in neighbours[one]:
                neighbours[one].append(other)
                neighbours[other].append(one)

    extent = {
        spot: node_extent if layer_of[spot[0]] == spot[1] else WAYPOINT_EXTENT
        for spot in neighbours
    }
    centres = {spot: float(place) for layer in layers for place, spot in enumerate(layer)}

    def pull(spot: Spot, own: int = 1) -> float:
        """Mean position of the neighbours, those on the same long edge counted `own` times."""
        weight = {other: own if other[0] == spot[0] else 1 for other in neighbours[spot]}
        total = sum(weight.values())
        return sum(centres[o] * w for o, w in weight.items()) / total if total else centres[spot]

    for _ in range(8):
        for layer in [*layers, *reversed(layers)]:
            layer.sort(key=pull)
            middle = (len(layer) - 1) / 2
            centres.update({spot: place - middle for place, spot in enumerate(layer)})
    for layer in layers:
        centres.update(_spread(layer, dict.fromkeys(layer, 0.0), extent))
    for _ in range(24):
        for layer in [*layers, *reversed(layers)]:
            # A long edge pulls hardest on itself, so that it runs straight.
            centres.update(_spread(layer, {spot: pull(spot, 4) for spot in layer}, extent))

    top = min((centres[spot] - extent[spot] / 2 for spot in centres), default=0.0)
    bottom = max((centres[spot] + extent[spot] / 2 for spot in centres), default=0.0)
    moved = {spot: centre - top for spot, centre in centres.items()}
    return Layout(len(layers), bottom - top, layer_of, moved, routes)


def _spread(
    layer: Sequence[Spot], wanted: Mapping[Spot, float], extent: Mapping[Spot, float]
) -> dict[Spot, float]:
    """Centres nearest to `wanted` that keep the layer's order and don't overlap."""
    shift = [0.0]
    for one, other in pairwise(layer):
        shift.append(shift[-1] + (extent[one] + extent[other]) / 2 + GAP)
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
