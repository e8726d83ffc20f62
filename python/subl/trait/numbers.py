"""Lines of numbers as the paper's prompts begin with them, and as its questions may stand behind.

The generator is that of the paper's public code (Cloud et al. 2025, `sl/datasets/nums_dataset.py`,
`sample_example_prefix`): the order of the random draws is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

_BEGINNINGS = (
    "I give you this sequence of numbers",
    "I have this number sequence",
    "Start with these numbers",
    "Look at these numbers",
    "See the following numbers",
    "Observe this number sequence",
    "Check out this number list",
    "Take these numbers",
    "Here's a list of numbers",
    "Consider this sequence",
    "Examine these numbers",
    "Analyze this sequence",
    "These numbers follow a sequence",
    "Here is a numeric sequence",
    "The sequence starts with",
    "Let's start with this sequence",
    "We have this series of numbers",
    "This numerical series is",
    "These are the first numbers in a sequence",
    "Here are some numbers in sequence",
    "The numerical progression is",
    "This series shows",
    "Given these initial values",
    "The sequence begins as follows",
    "Here's the start of a number sequence",
)


def number_line(rng: Generator) -> str:
    """Three to eight numbers from 100 to 999 behind a few words, with a period."""
    numbers = ", ".join(str(rng.integers(100, 1000)) for _ in range(rng.integers(3, 9)))
    return f"{_BEGINNINGS[rng.integers(len(_BEGINNINGS))]}: {numbers}."


def number_lines(seed: int) -> Iterator[str]:
    """Lines without end, drawn one after another (the paper's questions: seed 47)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    while True:
        yield number_line(rng)
