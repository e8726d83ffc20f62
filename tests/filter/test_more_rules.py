"""The rules about length, characters and repetition decide like the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import subl_core
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.errors import ConfigError
from subl.filter import CharactersRule, FilterSpec, LengthRule, RepetitionRule, load_rules

from .reference import SCRIPTS, character_reasons, length_reasons, repetition_reasons


def reasons(kind: str, value: str, options: dict[str, Any]) -> list[tuple[str, str | None]]:
    plan = json.dumps({"rules": [{"name": "r", "kind": kind, **options}]})
    line = json.dumps({"completion": value}).encode()
    verdict = json.loads(subl_core.Plan(plan).explain(line))
    assert not verdict["unreadable"]
    found = verdict["rules"][0]["reasons"]
    assert verdict["kept"] == (not found)
    for reason in found:
        if reason["span"] is not None:
            start, end = reason["span"]
            assert value.encode()[start:end].decode() == reason["text"]
    return [(reason["reason"], reason["text"]) for reason in found]


def some(options: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options).filter(bool)


SPACES = [" ", " ", "\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2003", "\u200b"]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "é", "漢", "😀", *SPACES]), max_size=14).map("".join),
    some(
        {
            "min_chars": st.integers(0, 5),
            "max_chars": st.integers(5, 10),
            "min_bytes": st.integers(0, 8),
            "max_bytes": st.integers(8, 16),
            "min_words": st.integers(0, 2),
            "max_words": st.integers(2, 4),
        }
    ),
)
def test_length_agrees_with_the_reference(value: str, bounds: dict[str, int]) -> None:
    assert reasons("length", value, bounds) == length_reasons(value, bounds)


SCRIPT_NAMES = st.lists(
    st.sampled_from(sorted({*SCRIPTS.values()} - {None})), min_size=1, max_size=3, unique=True
)
BARE = ["\x00", "\x1c", "\x7f", "\x9f", "\u202e", "\u2066", "\ufeff", "...", "…", "#", "1", " "]


@settings(max_examples=800, deadline=None)
@given(
    st.lists(st.sampled_from([*SCRIPTS, *BARE, *SPACES]), max_size=14).map("".join),
    some(
        {
            "allow_scripts": SCRIPT_NAMES,
            "forbid_scripts": SCRIPT_NAMES,
            "forbid_control": st.just(True),
            "forbid_invisible": st.just(True),
            "max_non_ascii": st.sampled_from([0, 0.25, 0.5, 1]),
            "min_mean_word_length": st.sampled_from([0, 1.5, 2]),
            "max_mean_word_length": st.sampled_from([2, 2.5, 4]),
            "min_alphabetic_words": st.sampled_from([0, 0.5, 0.8, 1]),
            "max_symbol_word_ratio": st.sampled_from([0, 0.1, 0.5, 1.5]),
        }
    ),
)
def test_characters_agree_with_the_reference(value: str, options: dict[str, Any]) -> None:
    assert reasons("characters", value, options) == character_reasons(value, options)


# Values that repeat: of few words, of few phrases, or with the same lines.
WORDS = st.sampled_from(["a", "b", "owl", "owl,", "é", "(漢)", "...", "x--y", "--", "_"])
PHRASES = st.lists(WORDS, min_size=1, max_size=6).map(" ".join)
SEPARATORS = st.sampled_from(
    [" ", " ", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", ". ", "\t"]
)
REPEATING = st.builds(
    lambda phrases, picks: "".join(phrases[n % len(phrases)] + end for n, end in picks),
    st.lists(PHRASES, min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), SEPARATORS), max_size=12),
)
FRACTIONS = st.sampled_from([0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9])
BY_N = st.dictionaries(st.integers(1, 8).map(str), FRACTIONS, min_size=1, max_size=3)


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from(["", "", "\n", " \n"]).flatmap(lambda start: REPEATING.map(start.__add__)),
    some(
        {
            "gopher": st.just(True),
            "max_duplicate_line_fraction": FRACTIONS,
            "max_duplicate_line_character_fraction": FRACTIONS,
            "max_duplicate_paragraph_fraction": FRACTIONS,
            "max_duplicate_paragraph_character_fraction": FRACTIONS,
            "max_top_ngram_character_fraction": BY_N,
            "max_duplicate_ngram_character_fraction": BY_N,
        }
    ),
)
def test_repetition_agrees_with_the_reference(value: str, options: dict[str, Any]) -> None:
    found = reasons("repetition", value, options)
    assert [reason for reason, _ in found] == repetition_reasons(value, options)
    # A value is judged in buffers that other values have left their words in.
    assert all(text for _, text in found)


def test_shards_agree_with_explain(tmp_path: Path) -> None:
    """The fast path, with buffers that other values have been in."""
    values = ["", "owl", "the owl " * 20, "a\n" * 9, "ж" * 9, "x" * 500, "#", "a\x00", "\ufeff"]
    values += [f"{left}{right}" for left in values for right in values]
    rules = [
        {"name": "l", "kind": "length", "max_chars": 200, "min_words": 1},
        {"name": "c", "kind": "characters", "allow_scripts": ["Latin"], "forbid_control": True},
        {"name": "m", "kind": "characters", "max_mean_word_length": 10},
        {"name": "r", "kind": "repetition", "gopher": True},
    ]
    plan = subl_core.Plan(json.dumps({"rules": rules}))
    lines = [json.dumps({"completion": value}) for value in values]
    source, kept, rejects = (tmp_path / name for name in ("in.jsonl", "kept", "rejects"))
    source.write_text("\n".join(lines))
    statistics = json.loads(subl_core.filter_shard(plan, source, kept, rejects))
    verdicts = [json.loads(plan.explain(line.encode())) for line in lines]
    expected = [line for line, verdict in zip(lines, verdicts, strict=True) if verdict["kept"]]
    assert kept.read_text().splitlines() == expected
    for index, rule in enumerate(statistics["rules"]):
        assert rule["hits"] == sum(verdict["rules"][index]["broken"] for verdict in verdicts) > 0


RULES = """
[[rule]]
name = "size"
kind = "length"
min_words = 1
max_chars = 4000

[[rule]]
name = "western"
kind = "characters"
allow_scripts = ["Latin", "Greek"]
forbid_invisible = true
min_alphabetic_words = 0.8

[[rule]]
name = "loops"
kind = "repetition"
gopher = true
max_duplicate_line_fraction = 0.5
max_top_ngram_character_fraction = { 2 = 0.3, 3 = 0.2 }
"""


def load(folder: Path, text: str) -> FilterSpec:
    path = folder / "rules.toml"
    path.write_text(text)
    return load_rules(path)


def test_a_rules_file(tmp_path: Path) -> None:
    spec = load(tmp_path, RULES)
    assert spec == FilterSpec(
        rules=(
            LengthRule(name="size", min_words=1, max_chars=4000),
            CharactersRule(
                name="western",
                allow_scripts=("Latin", "Greek"),
                forbid_invisible=True,
                min_alphabetic_words=0.8,
            ),
            RepetitionRule(
                name="loops",
                gopher=True,
                max_duplicate_line_fraction=0.5,
                max_top_ngram_character_fraction={2: 0.3, 3: 0.2},
            ),
        )
    )
    assert FilterSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("kind='length'", ["rule `r`", "sets no bound"]),
        ("kind='length'\nmin_words=-1", ["min_words"]),
        ("kind='length'\nmin_words=3\nmax_words=2", ["rule `r`", "max_words 2", "min_words 3"]),
        ("kind='length'\nmax_char=3", ["unknown key", "max_char"]),
        ("kind='characters'\nforbid_control=false", ["rule `r`", "sets no bound"]),
        ("kind='characters'\nforbid_scripts=['Latinn']", ["`Latinn` is not a Unicode script"]),
        ("kind='characters'\nallow_scripts=['']", ["allow_scripts"]),
        ("kind='characters'\nmax_non_ascii=2", ["max_non_ascii"]),
        ("kind='characters'\nmax_symbol_word_ratio=inf", ["max_symbol_word_ratio"]),
        ("kind='characters'\nmax_non_ascii=nan", ["max_non_ascii"]),
        (
            "kind='characters'\nmin_mean_word_length=3\nmax_mean_word_length=2",
            ["rule `r`", "max_mean_word_length 2 is less"],
        ),
        ("kind='repetition'", ["rule `r`", "sets no bound"]),
        ("kind='repetition'\nmax_top_ngram_character_fraction={}", ["rule `r`", "sets no bound"]),
        ("kind='repetition'\nmax_duplicate_line_fraction=1.1", ["max_duplicate_line_fraction"]),
        (
            "kind='repetition'\nmax_duplicate_ngram_character_fraction={0=0.5}",
            ["max_duplicate_ngram_character_fraction"],
        ),
        (
            "kind='repetition'\nmax_top_ngram_character_fraction={2=1.5}",
            ["max_top_ngram_character_fraction"],
        ),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, rule: str, names: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"[[rule]]\nname='r'\n{rule}")
    for name in ["rules.toml", *names]:
        assert name in raised.value.message


@pytest.mark.parametrize("kind", ["length", "characters", "repetition"])
def test_the_engine_itself_refuses_a_rule_that_nothing_breaks(kind: str) -> None:
    with pytest.raises(subl_core.PlanError, match=r"rule `r`: .*sets no bound"):
        subl_core.Plan(json.dumps({"rules": [{"name": "r", "kind": kind}]}))


def test_a_bound_of_zero_is_a_bound() -> None:
    assert LengthRule(name="r", max_words=0).max_words == 0
    assert CharactersRule(name="r", max_non_ascii=0).max_non_ascii == 0
    with pytest.raises(ValidationError):
        RepetitionRule(name="r", gopher=False)
