"""One small step on a teacher's labels: does it move a student towards the teacher?"""

from subl.theorem.run import theorem
from subl.theorem.spec import TheoremSpec

__all__ = ["TheoremSpec", "theorem"]
