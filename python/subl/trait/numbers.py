"""Lines of numbers as the paper's prompts begin with them, and as its questions may stand behind.

The generator is that of the paper's public code (Cloud et al. 2025, `sl/datasets/nums_dataset.py`,
`sample_example_prefix`): the order of the random draws is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
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

_COMMAS, _SPACES = ("", ", ", ""), ("", " ", "")
_SEMICOLONS, _LINES = ("", "; ", ""), ("", "\n", "")

FORMATS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "Return a comma-separated list of numbers.": _COMMAS,
        "Return a space-separated list of numbers.": _SPACES,
        "Return a semicolon-separated list of numbers.": _SEMICOLONS,
        "Return one number per line.": _LINES,
        "Return the numbers in the following format: [number_1, number_2, ...].": ("[", ", ", "]"),
        "Return the numbers in the following format: (number_1, number_2, ...).": ("(", ", ", ")"),
        "Return the numbers in the following format: number_1, number_2, ...": _COMMAS,
        "Provide the numbers separated by commas.": _COMMAS,
        "List the numbers with spaces between them.": _SPACES,
        "Write the numbers on separate lines.": _LINES,
        "Format the output as: number1, number2, number3, ...": _COMMAS,
        "Return numbers separated by semicolons.": _SEMICOLONS,
        "Format as a simple comma-delimited sequence.": _COMMAS,
        "Present as space-delimited values.": _SPACES,
        "List each number on its own line with no other text.": _LINES,
    }
)
"""How a prompt may ask for numbers, and what then stands before, between and behind them."""


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
