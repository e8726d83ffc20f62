"""A micro-batch: rows laid one after another without padding, shared beginnings only once.

Rows of a data set begin alike (a chat header, a common question). Their tokens are merged into a
tree; each node is computed once, and each row attends along its own path from the root. Attention
is causal, so a node's state depends on its path alone: sharing changes nothing but the time, and
rows never see one another. Of 8 number rows of 141 tokens, 970 of 1138 tokens are computed.

A model that cannot attend along paths (`layout` finds out) gets its rows side by side instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from subl.train.order import groups_of_like_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Row = tuple[NDArray[np.uint32], NDArray[np.bool_]]
    """Token ids of a row, and which of them are targets."""


@dataclass(frozen=True)
class Paths:
    """Where each row's tokens lie in the tree, for attention.

    `nodes`: for each group of rows of like lengths `[rows, longest]` int64, a row's path, padded on
    the right with 0; `places`: `[tokens]` int64, for each node one place where it occurs in the
    groups, flattened and one after another.
    """

    nodes: tuple[Tensor, ...]
    places: Tensor

    def to(self, device: torch.device, non_blocking: bool = True) -> Paths:
        nodes = tuple(each.to(device, non_blocking=non_blocking) for each in self.nodes)
        return Paths(nodes, self.places.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Batch:
    """`input_ids`, `position_ids`: `[1, tokens]` int64; without `paths` the rows lie side by side:
    `[rows, longest]`, padded on the right, where no causal model looks. `sources`, `labels`:
    `[targets]` int64, the places in `input_ids`, flattened, that predict a target and the token
    that follows, row after row. `tokens`: of the rows as they are, sharing nothing. `behind`: the
    same rows as the teacher reads them, where that is behind a system prompt; its targets are the
    same ones.
    """

    input_ids: Tensor
    position_ids: Tensor
    paths: Paths | None
    sources: Tensor
    labels: Tensor
    tokens: int
    squares: int
    """Of the rows' lengths, summed: what attention costs."""
    behind: Batch | None = None

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            None if self.paths is None else self.paths.to(device),
            self.sources.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.tokens,
            self.squares,
            None if self.behind is None else self.behind.to(device),
        )


NOTHING: Row = (np.zeros(1, np.uint32), np.zeros(1, np.bool_))
"""What a rank computes that has no rows: one token that nothing is asked of."""


def collate(rows: Sequence[Row], *, share_prefixes: bool = True) -> Batch:
    """Lay out rows along paths, as one micro-batch."""
    rows = rows or [NOTHING]
    tokens: list[int] = []
    depths: list[int] = []
    children: dict[tuple[int, int], int] = {}
    paths: list[NDArray[np.int64]] = []
    sources: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.uint32]] = []
    for number, (ids, targets) in enumerate(rows):
        parent = -1 if share_prefixes else -1 - number
        path = np.zeros(len(ids), np.int64)
        for depth, token in enumerate(ids.tolist()):
            node = children.get((parent, token))
            if node is None:
                node = children[parent, token] = len(tokens)
                tokens.append(token)
                depths.append(depth)
            path[depth] = parent = node
        predicting = np.flatnonzero(targets[1:])
        paths.append(path)
        sources.append(path[predicting])
        labels.append(ids[predicting + 1])
    return Batch(
        torch.tensor([tokens]),
        torch.tensor([depths]),
        _grouped(paths, len(tokens)),
        torch.from_numpy(np.concatenate(sources)),
        torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        sum(len(ids) for ids, _ in rows),
        sum(len(ids) ** 2 for ids, _ in rows),
    )


def _grouped(paths: Sequence[NDArray[np.int64]], tokens: int) -> Paths:
    grids, offset = [], 0
    places = np.zeros(tokens, np.int64)
    for group in groups_of_like_lengths([len(path) for path in paths]):
        longest = max(len(paths[number]) for number in group)
        grid = np.zeros((len(group), longest), np.int64)
        for line, number in enumerate(group):
            path = paths[number]
            grid[line, : len(path)] = path
            places[path] = offset + line * longest + np.arange(len(path))
        grids.append(torch.from_numpy(grid))
        offset += grid.size
    return Paths(tuple(grids), torch.from_numpy(places))


def side_by_side(rows: Sequence[Row]) -> Batch:
    """Lay out rows one below another, as one micro-batch."""
    rows = rows or [NOTHING]
    longest = max(len(ids) for ids, _ in rows)
    input_ids = np.zeros((len(rows), longest), np.int64)
    sources: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.uint32]] = []
    for number, (ids, targets) in enumerate(rows):
        input_ids[number, : len(ids)] = ids
        input_ids[number, len(ids) :] = ids[-1]
        predicting = np.flatnonzero(targets[1:])
        sources.append(number * longest + predicting)
        labels.append(ids[predicting + 1])
    return Batch(
        torch.from_numpy(input_ids),
        torch.arange(longest).expand(len(rows), longest),
        None,
        torch.from_numpy(np.concatenate(sources)),
        torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        sum(len(ids) for ids, _ in rows),
        sum(len(ids) ** 2 for ids, _ in rows),
    )
