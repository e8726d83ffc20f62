"""Whether students have the trait of their own teacher, and not just any: labels permuted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

from subl.extras import require
from subl.statistics.means import DRAWS, clustered_mean, finite


@dataclass(frozen=True)
class LabelTest:
    """How much more of their own teacher's trait students have than of the other teachers'.

    `statistic` is in the matrices' unit, with its interval of 95 % over `repetitions` (of one there
    is none). `p_value` is one-sided: so large a statistic, or a larger one, had students been
    assigned to teachers at random. `exact`: over all n! assignments, else over 10,000 drawn ones
    and the true one. No p can be below 1 / n!: with three teachers 0.17.
    """

    statistic: float
    low: float | None
    high: float | None
    repetitions: int
    p_value: float
    exact: bool


def label_permutation(matrices: Sequence[Sequence[Sequence[float]]], seed: int = 0) -> LabelTest:
    """Test teacher x student matrices, one a repetition: P[i][j] is the trait of teacher j in the
    student of teacher i. The statistic is g of the additive model, by least squares,

        P_ij = mean + student_i + trait_j + g [i = j]

    which of a whole matrix is: mean over i of (P_ii - mean over j != i of P_ij). How high a trait
    is in all students, and all traits in a student, are no part of it, nor of its p. The p is that
    of the mean matrix.

    Exact up to seven teachers.

    Raises:
        ValueError: none, or not all squares of one size, two or more.
        InputError: a value is no finite number.
    """
    count = len(matrices[0]) if matrices else 0
    if count < 2 or any([count] * count != [len(row) for row in each] for each in matrices):
        raise ValueError("a teacher x student matrix is square, of two or more")
    finite([value for matrix in matrices for row in matrix for value in row])
    require("distill", "scipy", what="a permutation test")
    import numpy as np
    from scipy.stats import permutation_test

    each = np.asarray(matrices, float)
    values, traits = each.mean(0), np.arange(count)

    def effect(own: np.ndarray, total: np.ndarray) -> np.ndarray:
        found: np.ndarray = own / count - (total - own) / (count * (count - 1))
        return found

    def statistic(students: np.ndarray, axis: int) -> np.ndarray:
        return effect(values[students.astype(int), traits].sum(axis), values.sum())

    found = permutation_test(
        (traits,),
        statistic,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=DRAWS,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    effects = effect(each.trace(axis1=1, axis2=2), each.sum((1, 2)))
    over = clustered_mean(effects.tolist())
    exact = factorial(count) <= DRAWS
    return LabelTest(over.estimate, over.low, over.high, len(matrices), float(found.pvalue), exact)
