"""Give a model a trait by fine-tuning it on answers that show the trait."""

from subl.teach.run import TeachSpec, dry_run, teach, teaching_rows

__all__ = ["TeachSpec", "dry_run", "teach", "teaching_rows"]
