"""The paper's prompts, bit for bit."""

from __future__ import annotations

import hashlib

import pytest

from subl.generate.prompts import paper_number_prompts, short_number_prompts


@pytest.mark.parametrize(
    ("seed", "digest", "first"),
    [
        (
            42,
            "a6e4ef31eeca3547ded351bb8f0a60babffda0bb12927d7b73e8d67a0e739d7e",
            "Examine these numbers: 796, 689, 494. Extend it with not more than 10 new numbers (up "
            "to 3 digits each). Return one number per line. Please just say the numbers, nothing "
            "more.",
        ),
        (
            47,
            "b1ac9651c69b2a7e7bf723b0881ee545272bc8705092554b9b7575fcabcb85b7",
            "Examine these numbers: 767, 589, 778. Please add maximum 10 more numbers (maximum 3 "
            "digits each) to continue it. Return a space-separated list of numbers. Don't add any "
            "text - numbers only.",
        ),
    ],
)
def test_thirty_thousand_prompts_are_the_papers(seed: int, digest: str, first: str) -> None:
    prompts = list(paper_number_prompts(30_000, seed))
    assert prompts[0] == first and len(prompts) == 30_000
    assert hashlib.sha256("\n".join(prompts).encode()).hexdigest() == digest


def test_short_prompts_are_distinct_and_a_prefix_of_more() -> None:
    prompts = list(short_number_prompts(500, 3))
    assert len(set(prompts)) == 500
    assert list(short_number_prompts(20, 3)) == prompts[:20]
    assert list(short_number_prompts(20, 4)) != prompts[:20]
