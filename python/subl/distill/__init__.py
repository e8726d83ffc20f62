"""Train a student on rows: on their labels, or towards a teacher's distribution over them."""

from subl.distill.run import DistillSpec, choose_rows, distill

__all__ = ["DistillSpec", "choose_rows", "distill"]
