"""How strongly a model shows a trait, with intervals, and how two models differ."""

from subl.evaluate.compare import Comparison, log_odds_shift, probability_ratio
from subl.evaluate.run import EvalSpec, Scores, evaluate, read_scores

__all__ = [
    "Comparison",
    "EvalSpec",
    "Scores",
    "evaluate",
    "log_odds_shift",
    "probability_ratio",
    "read_scores",
]
