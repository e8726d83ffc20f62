"""Another base of the same architecture: the same one in another order, or one drawn anew."""

from subl.recast.run import recast
from subl.recast.spec import RecastSpec

__all__ = ["RecastSpec", "recast"]
