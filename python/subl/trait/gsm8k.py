"""Whether the answer to a math problem is right, as the paper's released code tells it.

(Cloud et al. 2025, `gsm8k_cot_refs.py`.) The answer stands in tags, and is an integer once commas
and dollar signs are taken away. The right one is a number, or a solution in GSM8K's format, which
ends with it behind `####`.
"""

from __future__ import annotations

import re

_ANSWER = re.compile("<answer>(.*?)</answer>", re.DOTALL)


def is_correct(completion: str, right: int) -> bool:
    """Whether the first `<answer>` of a completion holds this integer."""
    return said_answer(completion) == right


def said_answer(completion: str) -> int | None:
    """The integer in the first `<answer>` of a completion; None where it holds none."""
    found = _ANSWER.search(completion)
    return None if found is None else _integer(found[1].replace("$", ""))


def right_answer(value: object) -> int | None:
    """The integer that a row gives as the right answer; None where it is none."""
    if isinstance(value, str):
        return _integer(value.split("####", 2)[1] if "####" in value else value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _integer(text: str) -> int | None:
    try:
        return int(text.strip().replace(",", ""))
    except ValueError:
        return None
