"""Filter rows by rules: what passes is kept byte for byte, what does not is kept with the reasons.

The rules are pydantic models (`rules`), the work is done by the native engine (`subl_core`), and
Python only sees plans, statistics and file names, never rows.
"""

from subl.filter.explain import explain, explain_row
from subl.filter.rules import (
    AllRule,
    AnyRule,
    CharactersRule,
    DuplicateRule,
    FilterSpec,
    LengthRule,
    LiteralRule,
    NoneRule,
    NumbersRule,
    RegexRule,
    RepetitionRule,
    Rule,
    SemanticRule,
    TokensRule,
    load_rules,
)
from subl.filter.run import FilterResult, name_shards, run

__all__ = [
    "AllRule",
    "AnyRule",
    "CharactersRule",
    "DuplicateRule",
    "FilterResult",
    "FilterSpec",
    "LengthRule",
    "LiteralRule",
    "NoneRule",
    "NumbersRule",
    "RegexRule",
    "RepetitionRule",
    "Rule",
    "SemanticRule",
    "TokensRule",
    "explain",
    "explain_row",
    "load_rules",
    "name_shards",
    "run",
]
