"""Whether students have the trait of their own teacher, and not just any: labels permuted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

from subl.extras import require
from subl.statistics.means import DRAWS, finite


@dataclass(frozen=True)
class LabelTest:
    """How much more of their own teacher's trait students have than of the other teachers'.

    `statistic` is in the matrix's unit. `p_value` is one-sided: so large a statistic, or a larger
    one, had students been assigned to teachers at random. `exact`: over all n! assignments, else
    over 10,000 drawn ones and the true one. No p can be below 1 / n!: with three teachers 0.17.
    """

    statistic: float
    p_value: float
    exact: bool


def label_permutation(matrix: Sequence[Sequence[float]], seed: int = 0) -> LabelTest:
    """Test a teacher x student matrix: P[i][j] is the trait of teacher j in the student of teacher
    i. The statistic is

        mean over i of (P_ii - mean over j != i of P_ij)

    within a student, its own trait over the others'. Taken within a trait (P_ji) it is the same
    number, and so is its p: how high a trait is in all students, and all traits in a student, are
    the same for every assignment.

    Exact up to seven teachers.

    Raises:
        ValueError: not a square of two or more.
        InputError: a value is no finite number.
    """
    count = len(matrix)
    if count < 2 or any(len(row) != count for row in matrix):
        raise ValueError("a teacher x student matrix is square, of two or more")
    finite([value for row in matrix for value in row])
    require("distill", "scipy", what="a permutation test")
    import numpy as np
    from scipy.stats import permutation_test

    values = np.asarray(matrix, float)
    traits, total = np.arange(count), values.sum()

    def statistic(students: np.ndarray, axis: int) -> np.ndarray:
        own = values[students.astype(int), traits].sum(axis)
        found: np.ndarray = own / count - (total - own) / (count * (count - 1))
        return found

    found = permutation_test(
        (traits,),
        statistic,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=DRAWS,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return LabelTest(float(found.statistic), float(found.pvalue), factorial(count) <= DRAWS)
