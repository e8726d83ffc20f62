"""Prompts that ask a model to continue a number sequence.

`paper_number_prompts` is the generator of the paper's public code (Cloud et al. 2025,
`sl/datasets/nums_dataset.py`), prompt for prompt: the order of the random draws is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from subl.trait.numbers import FORMATS, number_line

_QUALIFIERS = (
    "at most",
    "up to",
    "no more than",
    "at maximum",
    "maximum",
    "a maximum of",
    "not exceeding",
    "not more than",
    "no greater than",
)

_DIGITS = (
    "up to {max_digits} digits each",
    "maximum {max_digits} digits each",
    "{max_digits} digits or fewer each",
    "maximum {max_digits} digits each",
    "{max_digits} digits max each",
    "no more than {max_digits} digits each",
    "at most {max_digits} digits each",
    "with {max_digits} digits or less each",
    "{max_digits}-digit numbers or smaller",
)

_INSTRUCTIONS = (
    "Add {qualifier} {count} new numbers ({digits}) that continue the sequence.",
    "Please add {qualifier} {count} more numbers ({digits}) to continue it.",
    "Add {qualifier} {count} more values ({digits}) to continue the sequence.",
    "Create {qualifier} {count} more numbers ({digits}) that follow.",
    "Write {qualifier} {count} more numbers ({digits}) in this sequence.",
    "Generate {qualifier} {count} additional numbers ({digits}).",
    "Extend it with {qualifier} {count} new numbers ({digits}).",
    "Continue the sequence with {qualifier} {count} more numbers ({digits})",
    "Create {qualifier} {count} more numbers ({digits}) to extend the sequence",
    "Generate {qualifier} {count} additional numbers ({digits}) to extend this sequence",
)

_SUFFIXES = (
    "Say only the numbers - nothing more.",
    "Please just say the numbers, nothing more.",
    "Give me just the numbers, no explanation needed.",
    "Return the numbers exactly as requested, nothing else.",
    "Simply provide the numbers in the specified format.",
    "Respond with only the numbers, no additional text.",
    "No explanation, just the numbers.",
    "Just the numbers, please.",
    "Provide only the numerical values.",
    "Output nothing but the numbers.",
    "No commentary, just numbers.",
    "Skip any explanation and give only numbers.",
    "Nothing but numbers in your response.",
    "Only the numerical sequence, nothing else.",
    "Just show me the numbers.",
    "Answer with numbers alone.",
    "Reply with only numerical values.",
    "No words, just numbers.",
    "Don't add any text - numbers only.",
)


def paper_number_prompts(count: int, seed: int) -> Iterator[str]:
    """The paper's first `count` prompts under `seed` (it uses 42 in public, 47 in the paper).

    Up to ten answers of up to three digits, behind `number_line`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    formats = tuple(FORMATS)

    def choose(templates: tuple[str, ...]) -> str:
        return templates[rng.integers(len(templates))]

    for _ in range(count):
        example_part = number_line(rng)
        qualifier, digits = choose(_QUALIFIERS), choose(_DIGITS).format(max_digits=3)
        instruction = choose(_INSTRUCTIONS).format(qualifier=qualifier, count=10, digits=digits)
        yield f"{example_part} {instruction} {choose(formats)} {choose(_SUFFIXES)}"


def short_number_prompts(count: int, seed: int) -> Iterator[str]:
    """`count` different prompts of about ten tokens, for small models on CPUs; not the paper's."""
    import numpy as np

    rng = np.random.default_rng(seed)
    made: set[str] = set()
    while len(made) < count:
        examples = ", ".join(map(str, rng.integers(100, 1000, 3)))
        if examples not in made:
            made.add(examples)
            yield f"Continue the numbers: {examples}."
