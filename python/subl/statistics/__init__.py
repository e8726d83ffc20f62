"""Intervals, tests and power, over questions as clusters; scipy does the distributions.

Pure functions of numbers. An interval is never of zero width for lack of data: bounds are None
where fewer than two clusters were seen or nothing varied. What is no finite number is refused.
Whatever is drawn is drawn from a seed: the same numbers give the same figures.
"""

from subl.statistics.equivalence import equivalence
from subl.statistics.families import benjamini_hochberg, holm
from subl.statistics.labels import LabelTest, label_permutation
from subl.statistics.means import (
    Interval,
    cluster_bootstrap,
    clustered_mean,
    mean_probability,
)
from subl.statistics.paired import PairedDifference, paired_difference
from subl.statistics.power import detectable, power, questions_needed
from subl.statistics.rates import Rate, rate
from subl.statistics.ratio import Ratio, ratio
from subl.statistics.seeds import Pooled, Seeds, over_seeds, random_effects

__all__ = [
    "Interval",
    "LabelTest",
    "PairedDifference",
    "Pooled",
    "Rate",
    "Ratio",
    "Seeds",
    "benjamini_hochberg",
    "cluster_bootstrap",
    "clustered_mean",
    "detectable",
    "equivalence",
    "holm",
    "label_permutation",
    "mean_probability",
    "over_seeds",
    "paired_difference",
    "power",
    "questions_needed",
    "random_effects",
    "rate",
    "ratio",
]
