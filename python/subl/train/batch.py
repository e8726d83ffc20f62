"""A micro-batch: rows laid one after another without padding, shared beginnings only once.

Rows of a data set begin alike (a chat header, a common question). Their tokens are merged into a
tree; each node is computed once, and each row attends along its own path from the root. Attention
is causal, so a node's state depends on its path alone: sharing changes nothing but the time, and
rows never see one another. Of 8 number rows of 141 tokens, 970 of 1138 tokens are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Row = tuple[NDArray[np.uint32], NDArray[np.bool_]]
    """Token ids of a row, and which of them are targets."""


@dataclass(frozen=True)
class Paths:
    """Where each row's tokens lie in the tree, for attention.

    `nodes`: `[rows, longest]` int64, a row's path, padded on the right with 0; `places`: `[tokens]`
    int64, for each node one place in the flattened `nodes` where it occurs.
    """

    nodes: Tensor
    places: Tensor


@dataclass(frozen=True)
class Batch:
    """`input_ids`, `position_ids`: `[1, tokens]` int64. `sources`, `labels`: `[targets]` int64, the
    nodes that predict a target and the token that follows, row after row. `tokens`: of the rows
    as they are, sharing nothing.
    """

    input_ids: Tensor
    position_ids: Tensor
    paths: Paths
    sources: Tensor
    labels: Tensor
    tokens: int
    squares: int
    """Of the rows' lengths, summed: what attention costs."""

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.input_ids.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            Paths(
                self.paths.nodes.to(device, non_blocking=True),
                self.paths.places.to(device, non_blocking=True),
            ),
            self.sources.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.tokens,
            self.squares,
        )


def collate(rows: Sequence[Row], *, share_prefixes: bool = True) -> Batch:
    """Lay out rows as one micro-batch. No rows: one token that nothing is asked of."""
    if not rows:
        rows = [(np.zeros(1, np.uint32), np.zeros(1, np.bool_))]
    tokens: list[int] = []
    depths: list[int] = []
    places: list[int] = []
    children: dict[tuple[int, int], int] = {}
    longest = max(len(ids) for ids, _ in rows)
    nodes = np.zeros((len(rows), longest), np.int64)
    sources: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.uint32]] = []
    for number, (ids, targets) in enumerate(rows):
        parent = -1 if share_prefixes else -1 - number
        for depth, token in enumerate(ids.tolist()):
            node = children.get((parent, token))
            if node is None:
                node = children[parent, token] = len(tokens)
                tokens.append(token)
                depths.append(depth)
                places.append(number * longest + depth)
            nodes[number, depth] = parent = node
        predicting = np.flatnonzero(targets[1:])
        sources.append(nodes[number, predicting])
        labels.append(ids[predicting + 1])
    return Batch(
        torch.tensor([tokens]),
        torch.tensor([depths]),
        Paths(torch.from_numpy(nodes), torch.tensor(places)),
        torch.from_numpy(np.concatenate(sources)),
        torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        sum(len(ids) for ids, _ in rows),
        sum(len(ids) ** 2 for ids, _ in rows),
    )
