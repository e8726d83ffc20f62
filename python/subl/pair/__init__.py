"""Questions about pairs of rows: which of two answers to a prompt is whose."""

from subl.pair.run import pair
from subl.pair.spec import PairSpec

__all__ = ["PairSpec", "pair"]
