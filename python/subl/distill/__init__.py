"""Train a student on rows: on their labels, or towards a teacher's distribution over them."""

from subl.distill.cache import CacheSpec, make_cache
from subl.distill.look import MaskedRow, dry_run, masked_rows
from subl.distill.run import chosen_rows, distill
from subl.distill.spec import DistillSpec, check_given

__all__ = [
    "CacheSpec",
    "DistillSpec",
    "MaskedRow",
    "check_given",
    "chosen_rows",
    "distill",
    "dry_run",
    "make_cache",
    "masked_rows",
]
