"""The number rule decides like the paper's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import subl_core
from hypothesis import given, settings
from hypothesis import strategies as st

from .reference import reject_reasons

PATH = Path(__file__).parent / "data" / "number_rule.jsonl"
HEADER, *VECTORS = map(json.loads, PATH.read_text().splitlines())


def reasons(answer: str, config: dict[str, Any]) -> list[str]:
    plan = subl_core.Plan(json.dumps({"rules": [{"name": "numbers", "kind": "numbers", **config}]}))
    line = json.dumps({"completion": answer}).encode()
    verdict = json.loads(plan.explain(line))
    assert not verdict["unreadable"]
    found = [reason["reason"] for reason in verdict["rules"][0]["reasons"]]
    assert verdict["kept"] == (not found)
    return found


def test_agrees_with_every_vector() -> None:
    assert len(VECTORS) == 1950
    for vector in VECTORS:
        config = HEADER["configs"][vector["config"]]
        assert reasons(vector["answer"], config) == vector["reasons"], vector
        assert reject_reasons(vector["answer"], **config) == vector["reasons"], vector


# ASCII pieces; then digits, whitespace and look-alikes from elsewhere in Unicode.
PIECES = st.sampled_from(
    [
        *(
            [
                "0",
                "1",
                "2",
                "3",
                "9",
                "7",
                "42",
                "999",
                "1000",
                "666",
                "007",
                ",",
                ";",
                "-",
                ".",
                "[",
                "]",
                "(",
                ")",
                "a",
            ]
        ),
        *(" ", "  ", ", ", "\n", "\t", "\r\n", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000"),
        *("\u0663", "\uff12", "\u09ef", "\U0001d7ce", "\U00011f50", "\xb2"),
        *("\u200b", "\ufeff", "\uff0c"),
    ]
)
LISTS = st.builds(
    lambda numbers, separator, before, after: before + separator.join(numbers) + after,
    st.lists(st.integers(0, 1200).map(str), max_size=12),
    st.sampled_from([",", ", ", " ", ";", " ; ", "\n", "\xa0", "\x1d", "٣", ",,"]),
    st.sampled_from(["", "", "[", "(", " ", "[["]),
    st.sampled_from(["", "", "]", ")", ".", "].", ").", "]]", " "]),
)


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(PIECES, max_size=12).map("".join) | LISTS,
    st.sampled_from(HEADER["configs"]),
)
def test_agrees_with_the_paper_on_any_answer(answer: str, config: dict[str, Any]) -> None:
    assert reasons(answer, config) == reject_reasons(answer, **config)


@pytest.mark.parametrize("digits", [4299, 4300, 4301])
@pytest.mark.parametrize("first", ["0", "9"])
def test_long_integers_like_python(digits: int, first: str) -> None:
    answer = first + "1" * (digits - 1)
    for config in ({}, {"max_value": 999}, {"min_value": 2**62}):
        assert reasons(answer, config) == reject_reasons(answer, **config)
