"""What else the pull of rows goes with: a trait is no reason for long rows, nor for surprising
ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from subl.statistics.paired import correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def confounds(
    pull: NDArray[np.float64], against: Mapping[str, NDArray[np.float64]]
) -> dict[str, float | None]:
    """Spearman's rank correlation of the pull with each; None where one does not vary."""
    ranks = _ranks(pull)
    found = {name: correlation(ranks, _ranks(values)) for name, values in against.items()}
    return {name: None if each is None else round(each, 4) for name, each in found.items()}


def _ranks(values: NDArray[np.float64]) -> list[float]:
    """From 1; the mean rank of those that are alike."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: list[float] = (last - (counts - 1) / 2)[place].tolist()
    return ranks
