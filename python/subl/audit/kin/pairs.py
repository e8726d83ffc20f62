"""Which block of the one model is compared with which of the other.

Blocks are told apart by signatures that no order of their units changes. So units of two
strangers stand in an order drawn at random whatever blocks are paired, and the choice makes no p
value of that order smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

IN_ORDER = 0.25
"""Of a correlation: by how much others have to be more alike than those in order, in the mean."""


def paired(ours: NDArray[Any], theirs: NDArray[Any]) -> list[tuple[int, int]]:
    """Pairs of blocks, as many as the shallower model has, in order of the first's.

    Those of one number, or of models of unequal depth those in such order as are most alike in sum;
    and others where these are clearly more alike.

    Args:
        ours, theirs: signatures, shape (blocks, numbers).
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    # What all blocks share says nothing of which is which.
    every = np.concatenate([ours, theirs])
    every = every - every.mean(axis=0)
    every /= np.maximum(np.linalg.norm(every, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    likeness = every[: len(ours)] @ every[len(ours) :].T
    likeness[_in_order_either_way(likeness)] += IN_ORDER
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def is_in_order(pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether blocks that come later in the one model come later in the other."""
    theirs = [column for _, column in sorted(pairs)]
    return theirs == sorted(theirs)


def in_order(likeness: NDArray[Any]) -> list[int]:
    """For each row a column, increasing, so that the sum is as large as it can be; there are at
    least as many columns as rows."""
    import numpy as np

    rows, columns = likeness.shape
    best = np.full((rows + 1, columns + 1), -np.inf)
    best[0] = 0
    for row in range(rows):
        for column in range(columns):
            taken = best[row, column] + likeness[row, column]
            best[row + 1, column + 1] = max(taken, best[row + 1, column])
    found: list[int] = []
    column = columns
    for row in range(rows, 0, -1):
        while best[row, column] == best[row, column - 1]:
            column -= 1
        column -= 1
        found.append(column)
    return found[::-1]


def _in_order_either_way(likeness: NDArray[Any]) -> tuple[list[int], list[int]]:
    rows, columns = likeness.shape
    if rows <= columns:
        return list(range(rows)), in_order(likeness)
    return in_order(likeness.T), list(range(columns))
