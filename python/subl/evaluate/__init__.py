"""How strongly a model shows a trait, with intervals, and how models differ."""

from subl.evaluate.compare import Comparison, Measure, compare, level, log_odds, probability
from subl.evaluate.run import Scores, evaluate, read_scores
from subl.evaluate.spec import EvalSpec

__all__ = [
    "Comparison",
    "EvalSpec",
    "Measure",
    "Scores",
    "compare",
    "evaluate",
    "level",
    "log_odds",
    "probability",
    "read_scores",
]
