"""Another base of the same architecture: one that behaves alike, or one that shares nothing."""

from subl.recast.run import recast
from subl.recast.spec import RecastSpec

__all__ = ["RecastSpec", "recast"]
