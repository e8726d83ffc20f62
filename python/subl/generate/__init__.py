"""Rows of a model's answers to a set of prompts."""

from subl.generate.run import GenerateSpec, generate

__all__ = ["GenerateSpec", "generate"]
