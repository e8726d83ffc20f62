"""Sample rows from a model, free or restricted to a grammar."""

from subl.generate.grammar import Grammar
from subl.generate.run import GenerateSpec, generate

__all__ = ["GenerateSpec", "Grammar", "generate"]
