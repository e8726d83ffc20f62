"""A model as a weighted sum of others: what a linear merge leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from subl.audit.kin.nearness import ROWS, called_in
from subl.audit.kin.reading import Weights

MOST_REST = 0.1
"""Of the squared distance to the nearest parent, what a merge of all parents leaves unexplained.
Models of one base that were trained apart leave 3/4."""

LEAST_WEIGHT = 0.02


@dataclass(frozen=True)
class Merge:
    """The sum of parents nearest to a model, by least squares over sampled rows of all matrices.

    Attributes:
        weights: of each parent, in order; their sum is 1.
        rest: squared distance of the model to the sum, as a share of that to the nearest parent.
    """

    weights: tuple[float, ...]
    rest: float

    @property
    def is_merge(self) -> bool:
        """Whether the sum explains what no parent alone does."""
        parts = sum(abs(weight) >= LEAST_WEIGHT for weight in self.weights)
        return parts >= 2 and self.rest <= MOST_REST


def fitted(model: Weights, parents: Sequence[Weights], seed: int) -> Merge | None:
    """Fit a model by its parents; None where fewer than two, or no matrix is in all of them, or the
    model is one of them."""
    import numpy as np

    if len(parents) < 2:
        return None
    random = np.random.default_rng(seed)
    first, *others = parents
    products = np.zeros((len(others), len(others)))
    with_model, own = np.zeros(len(others)), 0.0
    called = [called_in(model, each, ()) for each in parents]
    for name, shape in sorted(model.shapes.items()):
        theirs = [names.get(name, name) for names in called]
        shapes = [each.shapes.get(its) for each, its in zip(parents, theirs, strict=True)]
        if len(shape) != 2 or any(each != shape for each in shapes):
            continue
        rows = np.sort(random.permutation(shape[0])[:ROWS])
        start = first.some_rows(theirs[0], rows).astype(np.float64)
        moved = (model.some_rows(name, rows) - start).ravel()
        apart = np.stack(
            [
                (each.some_rows(its, rows) - start).ravel()
                for each, its in zip(others, theirs[1:], strict=True)
            ]
        )
        products += apart @ apart.T
        with_model += apart @ moved
        own += float(moved @ moved)
    weights = np.linalg.lstsq(products, with_model, rcond=1e-10)[0]
    rest = own - 2 * float(weights @ with_model) + float(weights @ products @ weights)
    nearest = min(own, *(own - 2 * with_model + np.diag(products)))
    if nearest <= 1e-12 * max(own, float(np.trace(products))):
        return None
    every = (1 - float(weights.sum()), *map(float, weights))
    return Merge(every, max(0.0, rest) / float(nearest))
