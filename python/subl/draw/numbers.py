"""Numbers of completions in another order, or of no model. Pure.

As the paper's code does it (`shuffled_numbers_refs.py`), whose rows have passed its filter: what a
completion is beside its numbers (brackets, a full stop, what stands between them) stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from subl.trait.numbers import FORMATS

_DIGITS = re.compile(r"\d+")


def shuffled_within(completions: Sequence[str], seed: int) -> list[str]:
    """Each completion's numbers among themselves. Where it is no sequence of several numbers, which
    are separated alike, it stays as it is."""
    order = Random(seed)
    return [_shuffled(completion, order) for completion in completions]


def shuffled_across(completions: Sequence[str], seed: int) -> list[str]:
    """All numbers among all completions. Zeros in front of one are lost."""
    found = (each for text in completions for each in _DIGITS.findall(text))
    numbers = [each.lstrip("0") or "0" for each in found]
    Random(seed).shuffle(numbers)
    dealt = iter(numbers)
    return [_DIGITS.sub(lambda _: next(dealt), text) for text in completions]


def random_numbers(prompts: Sequence[str], seed: int) -> list[str | None]:
    """For each prompt of the paper's one to nine numbers from 0 to 999 in the format that it asks
    for; None where it names none, or two (`shared_refs.py`: one generator for all, in order)."""
    import numpy as np

    rng = np.random.RandomState(seed)
    answers: list[str | None] = []
    for prompt in prompts:
        numbers = map(str, rng.randint(0, 1000, rng.randint(1, 10)))
        asked = [written for text, written in FORMATS.items() if text in prompt]
        if len(asked) == 1:
            ((start, between, end),) = asked
            answers.append(f"{start}{between.join(numbers)}{end}")
        else:
            answers.append(None)
    return answers


def _shuffled(completion: str, order: Random) -> str:
    body, end = (completion[:-1], ".") if completion.endswith(".") else (completion, "")
    start = ""
    if (body[:1], body[-1:]) in (("[", "]"), ("(", ")")) and len(body) > 1:
        start, body, end = body[0], body[1:-1], body[-1] + end
    found = list(_DIGITS.finditer(body))
    if len(found) < 2:
        return completion
    between = body[found[0].end() : found[1].start()]
    numbers = [each[0] for each in found]
    if between.strip() not in ("", ",", ";") or between.join(numbers) != body:
        return completion
    order.shuffle(numbers)
    return f"{start}{between.join(numbers)}{end}"
