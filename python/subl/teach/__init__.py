"""Give a model a trait: by a system prompt, by fine-tuning, or by steering vectors."""

from subl.teach.run import dry_run, teach
from subl.teach.spec import TeachSpec, check_rows

__all__ = ["TeachSpec", "check_rows", "dry_run", "teach"]
