"""Train a student on rows: on their labels, or towards a teacher's distribution over them."""

from subl.distill.run import DistillSpec, check_given, chosen_rows, distill

__all__ = ["DistillSpec", "check_given", "chosen_rows", "distill"]
