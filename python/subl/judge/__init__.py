"""Write into rows what judges say of them, for a filter to take a threshold of."""

from subl.judge.run import judge, look
from subl.judge.spec import JudgeSpec

__all__ = ["JudgeSpec", "judge", "look"]
