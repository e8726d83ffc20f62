"""Some of the rows, drawn by chance, and their numbers in another order: what controls train on."""

from subl.draw.run import draw
from subl.draw.spec import DrawSpec

__all__ = ["DrawSpec", "draw"]
