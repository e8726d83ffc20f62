"""Some of the rows, drawn by chance, with their numbers in another order or with numbers of no
model: what controls train on."""

from subl.draw.run import draw
from subl.draw.spec import DrawSpec

__all__ = ["DrawSpec", "draw"]
