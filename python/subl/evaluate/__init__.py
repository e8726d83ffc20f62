"""How strongly a model shows a trait, with intervals, and how models differ."""

from subl.evaluate.against import Paired, paired_table, read_earlier
from subl.evaluate.compare import (
    Comparison,
    Measure,
    adjusted,
    compare,
    difference,
    level,
    log_odds,
    probability,
)
from subl.evaluate.run import Scores, evaluate, read_scores
from subl.evaluate.spec import EvalSpec

__all__ = [
    "Comparison",
    "EvalSpec",
    "Measure",
    "Paired",
    "Scores",
    "adjusted",
    "compare",
    "difference",
    "evaluate",
    "level",
    "log_odds",
    "paired_table",
    "probability",
    "read_earlier",
    "read_scores",
]
