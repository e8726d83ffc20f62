"""A concept becomes a set of token sequences once, at plan time; scanning then needs no model.

A concept is words, example texts or a vector. `resolve` takes the surface forms of the words, and
the words of a vocabulary whose vectors are near: rows of a model's own input embedding, or the
embeddings that a sentence model gives to the vocabulary's words. What it found is written down
(`rule_toml`) for a person to prune, and that file is the rule: the same file, the same verdicts.
"""

from subl.filter.concept.document import quoted, rule_toml
from subl.filter.concept.resolve import resolve
from subl.filter.concept.spec import Concept, ConceptSpec, Entry, ResolvedEntry

__all__ = [
    "Concept",
    "ConceptSpec",
    "Entry",
    "ResolvedEntry",
    "quoted",
    "resolve",
    "rule_toml",
]
