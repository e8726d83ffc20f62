"""What rules say of texts that Unicode has more than one way to write, and that every way of asking
says the same."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any
from unicodedata import normalize

import polars as pl
import pytest
import regex
import subl_core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.filter import FilterSpec, LiteralRule, RegexRule, expression, match_batch, run
from subl.filter.explain import explain, explain_rules

from .reference import broken, character_reasons, occurrence

# Letters of scripts with and without spaces, emoji, and what belongs to them.
PIECES = [
    *("owl", "OWL", "s", "1", "_", " ", "c++", "é", "e\u0301", "É", "caf", "ς", "\u03c3", "Σ"),
    *("猫", "頭", "か", "か\u3099", "ー", "น", "\u0e37", "က", "\u102c", "한", "\u1112\u1161\u11ab"),
    *("क", "\u092e", "\u0940", "\u094d", "ন\u09be", "ম", "ی", "\u0d02", "സ\u0d4d"),
    *("🦉", "❤", "👩", "⚕", "🔥", "👁", "🗨", "\U0001f3fd", "🏴", "#", "="),
    *("\ufe0f", "\ufe0e", "\ufe0f", "\u200d", "\u200d", "\u200c", "\u0301", "\u0323", "\u0338"),
    *("\U000e0100", "\u00ad", "\u200b", "\u061c", "\u180e", "\ufff9", "\u3164", "\u212a"),
    *("\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067", "\U000e007f", "\U000e0061"),
    *("👩\u200d⚕\ufe0f", "❤\ufe0f\u200d🔥", "🏴\U000e0075\U000e0073\U000e0074\U000e0078\U000e007f"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)
WORDS = (
    "owl",
    "c++",
    "é",
    "cafe\u0301",
    "caf",
    "猫",
    "が",
    "น",
    "한",
    "कम",
    "🦉",
    "❤",
    "\u03c3",
    "k",
    "_1",
    "=",
)
LITERALS: list[dict[str, Any]] = [
    {
        "name": f"{whole_word} {ignore_case} {len(words)}",
        "kind": "literal",
        "field": "completion",
        "words": words,
        "whole_word": whole_word,
        "ignore_case": ignore_case,
    }
    for whole_word in (True, False)
    for ignore_case in (True, False)
    # ASCII words alone are searched for in another way.
    for words in (WORDS, ("owl", "c++", "caf", "k", "_1", "="))
]


def reasons(rule: dict[str, Any], value: str) -> list[tuple[str, Any]]:
    plan = subl_core.Plan(json.dumps({"rules": [{"name": "r", **rule}]}))
    verdict = json.loads(plan.explain(json.dumps({"completion": value}).encode()))
    return [(each["reason"], each["text"]) for each in verdict["rules"][0]["reasons"]]


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_invisible_characters_agree_with_the_reference(value: str) -> None:
    options = {"forbid_invisible": True}
    assert reasons({"kind": "characters", **options}, value) == character_reasons(value, options)


LITERAL_SPEC = FilterSpec.model_validate({"rules": LITERALS})


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_words_agree_with_the_reference(value: str) -> None:
    verdict = explain(LITERAL_SPEC, json.dumps({"completion": value}).encode())
    for rule, found in zip(LITERALS, verdict["rules"], strict=True):
        expected = broken(rule, value)
        assert [
            (each["reason"], each["span"], each["text"]) for each in found["reasons"]
        ] == expected, rule["name"]
        # The same of every equivalent text.
        for form in {normalize("NFC", value), normalize("NFD", value)} - {value}:
            words = [word for word in rule["words"] if occurrence(word, form, rule)]
            assert [reason for reason, _, _ in expected] == [f"contains `{word}`" for word in words]


ONE_ANSWER = FilterSpec.model_validate(
    {
        "rules": [
            LITERALS[0],
            {**LITERALS[1], "words": ("猫", "🦉", "e\u0301"), "ignore_diacritics": True},
            {"name": "invisible", "kind": "characters", "forbid_invisible": True},
            {"name": "loops", "kind": "repetition", "max_duplicate_paragraph_fraction": 0.3},
            {"name": "regex", "kind": "regex", "patterns": [r"\bowls?\b", "e\u0301"]},
        ]
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.lists(TEXTS | TEXTS.map(lambda text: f"{text}\r\n\r\n" * 3), max_size=12))
def test_every_way_of_asking_gives_the_same_answer(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    source, kept, rejects = (folder / f"{name}.jsonl" for name in ("in", "kept", "rejects"))
    lines = [json.dumps({"completion": value}) for value in values]
    source.write_text("".join(f"{line}\n" for line in lines))
    subl_core.filter_shard(ONE_ANSWER.plan(), source, kept, rejects)
    verdicts = [explain(ONE_ANSWER, line.encode()) for line in lines]
    explained = [verdict["kept"] for verdict in verdicts]
    assert kept.read_text().splitlines() == [
        line for line, keep in zip(lines, explained, strict=True) if keep
    ]
    frame = pl.DataFrame({"completion": values}, schema={"completion": pl.String})
    assert frame.select(expression(ONE_ANSWER)).to_series().to_list() == explained
    masks = [
        sum(rule["broken"] << bit for bit, rule in enumerate(verdict["rules"]))
        for verdict in verdicts
    ]
    assert match_batch(ONE_ANSWER, frame)["broken"].to_list() == masks
    names = [
        list(dict.fromkeys(reason["rule"] for reason in json.loads(line)["reasons"]))
        for line in rejects.read_text().splitlines()
    ]
    assert names == [
        [rule["name"] for rule in verdict["rules"] if rule["broken"]]
        for verdict in verdicts
        if not verdict["kept"]
    ]


def nfkc_casefold(text: str) -> str:
    visible = regex.sub(r"\p{Default_Ignorable_Code_Point}", "", text)
    once = normalize("NFKC", normalize("NFKC", visible).casefold())
    return normalize("NFKC", once.casefold())


def test_duplicates_are_the_same_after_folding(tmp_path: Path) -> None:
    """Each letter with the mates that Unicode has for it, in one run."""
    letters = [
        chr(code) for code in (*range(0xC0, 0x590), *range(0x10A0, 0x1200), *range(0x1E00, 0x2190))
    ]
    letters += [chr(code) for code in (*range(0xFB00, 0xFB07), *range(0xFF21, 0xFF5B))]
    letters = [c for c in letters if c.isalpha() or regex.match(r"\p{Mn}", c)]
    texts = [f"x{c}y" for c in letters]
    texts += [
        "xe\u0301y",
        "xssy",
        "xsSy",
        "xy",
        "x\u00ady",
        "x\u200b\ufe0fy",
        "xJ\u030cy",
        "x\U000e0100\u2060y",
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"completion": text}) + "\n" for text in texts))
    spec = FilterSpec.model_validate({"rules": [{"name": "again", "kind": "duplicate"}]})
    run(spec, [source], tmp_path / "out")
    kept = [
        json.loads(line)["completion"]
        for line in (tmp_path / "out/kept/in.jsonl").read_text().splitlines()
    ]
    groups = defaultdict(list)
    for text in texts:
        groups[nfkc_casefold(text)].append(text)
    assert kept == [group[0] for group in groups.values()]
    assert len(kept) < 0.7 * len(texts)


@pytest.mark.parametrize(
    ("pattern", "warns"),
    [
        (r"\b猫\b", "script without spaces"),
        (r"\b(?:owl|ฮูก)", "script without spaces"),
        (r"\b🦉", "emoji"),
        (r"\bowls?\b", None),
        (r"猫|\bowl\b", None),
    ],
)
def test_rules_in_words_warn_of_boundaries(pattern: str, warns: str | None) -> None:
    spec = FilterSpec(
        rules=(RegexRule(name="r", patterns=(pattern,)), LiteralRule(name="l", words=("猫",)))
    )
    found, literal = explain_rules(spec)
    assert literal.warnings == ()
    if warns is None:
        assert found.warnings == ()
    else:
        assert [warns in warning and pattern in warning for warning in found.warnings] == [True]
