"""A rules file says what it means, or what is wrong with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from subl.errors import ConfigError, InputError
from subl.filter import FilterSpec, LiteralRule, NumbersRule, RegexRule, explain, load_rules

RULES = r"""
[[rule]]
name = "three-digit numbers"
kind = "numbers"
max_value = 999
max_count = 10

[[rule]]
name = "owl words"
kind = "regex"
patterns = ['\bowls?\b']
ignore_case = true

[[rule]]
name = "names"
kind = "literal"
field = "prompt"
words = ["Hedwig", "Archimedes"]
"""


def load(folder: Path, text: str) -> FilterSpec:
    path = folder / "rules.toml"
    path.write_text(text)
    return load_rules(path)


def test_a_rules_file(tmp_path: Path) -> None:
    spec = load(tmp_path, RULES)
    assert spec == FilterSpec(
        rules=(
            NumbersRule(name="three-digit numbers", max_value=999, max_count=10),
            RegexRule(name="owl words", patterns=(r"\bowls?\b",), ignore_case=True),
            LiteralRule(name="names", field="prompt", words=("Hedwig", "Archimedes")),
        )
    )
    # What an artifact records can be read back.
    assert FilterSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["rule"]),
        ("rule = []", ["rule"]),
        ("[[rule]]\nname='a'\nkind='numbers'\nmax_valu=3", ["unknown key", "max_valu"]),
        ("[[rules]]\nname='a'\nkind='numbers'\n[extra]\n", ["unknown key", "extra"]),
        ("[[rule]]\nname='a'\nkind='nunbers'", ["nunbers", "numbers", "regex", "literal"]),
        ("[[rule]]\nkind='numbers'", ["missing key", "name"]),
        ("[[rule]]\nname='a'\nkind='regex'\npatterns=[]", ["patterns"]),
        ("[[rule]]\nname='a'\nkind='literal'\nwords=['x', '']", ["words"]),
        ("[[rule]]\nname='r'\nkind='regex'\npatterns=['(']", ["rule `r`", "pattern `(`"]),
        ("[[rule]]\nname='r'\nkind='regex'\npatterns=['a(?=b)']", ["rule `r`", "look-around"]),
        ("[[rule]]\nname='a'\nkind='numbers'\n" * 2, ["two rules are named `a`"]),
        (
            "[[rule]]\nname='a'\nkind='numbers'\nmin_value=2\nmax_value=1",
            ["rule `a`", "max_value 1"],
        ),
        ("[[rule]\n", ["not valid TOML"]),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, text: str, names: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    for name in ["rules.toml", *names]:
        assert name in raised.value.message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.toml"):
        load_rules(tmp_path / "nothing.toml")


def test_explain(tmp_path: Path) -> None:
    spec = load(tmp_path, RULES)
    kept = explain(spec, b'{"prompt": "3 numbers", "completion": "1, 2, 3"}\n')
    assert kept["kept"] and not any(rule["broken"] for rule in kept["rules"])
    verdict = explain(spec, '{"prompt": "hedwig", "completion": "é Owl"}'.encode())
    assert not verdict["kept"]
    assert [rule["broken"] for rule in verdict["rules"]] == [True, True, True]
    assert verdict["rules"][1]["reasons"] == [
        {
            "rule": "owl words",
            "kind": "regex",
            "field": "completion",
            "reason": r"matched `\bowls?\b`",
            "span": [3, 6],
            "text": "Owl",
        }
    ]
    assert explain(spec, b"{}")["unreadable"][0]["reason"] == "missing field"


def test_importing_the_filter_is_light() -> None:
    code = (
        "import sys, subl.filter;"
        "heavy = {'click', 'polars', 'torch', 'numpy', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rules_that_compare_rows_are_not_asked_about_one() -> None:
    spec = FilterSpec.model_validate(
        {
            "rules": [
                {"name": "again", "kind": "duplicate", "action": "count"},
                {"name": "owl", "kind": "literal", "words": ["owl"], "action": "count"},
                {"name": "both", "kind": "all", "rules": ["again", "owl"]},
                {"name": "no owl", "kind": "none", "rules": ["owl"], "action": "count"},
            ]
        }
    )
    verdict = explain(spec, b'{"completion": "an owl"}')
    assert [rule["broken"] for rule in verdict["rules"]] == [None, True, None, False]


def test_a_backspace_in_a_pattern_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nname = "owl"\nkind = "regex"\npatterns = ["\\bowl"]\n')
    with pytest.raises(ConfigError, match="single quotes"):
        load_rules(file)
