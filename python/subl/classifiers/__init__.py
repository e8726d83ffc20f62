"""Traits handed down among small classifiers of images: the paper's experiment on MNIST."""

from subl.classifiers.run import classifiers
from subl.classifiers.spec import ClassifiersSpec

__all__ = ["ClassifiersSpec", "classifiers"]
