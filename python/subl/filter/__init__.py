"""Filter rows by rules: what passes is kept byte for byte, what does not is kept with the reasons.

The rules are pydantic models (`rules`), the work is done by the native engine (`subl_core`), and
Python only sees plans, statistics and file names, never rows.
"""

from subl.filter.explain import explain
from subl.filter.rules import (
    AllRule,
    AnyRule,
    DuplicateRule,
    FilterSpec,
    LiteralRule,
    NoneRule,
    NumbersRule,
    RegexRule,
    Rule,
    load_rules,
)
from subl.filter.run import FilterResult, name_shards, run

__all__ = [
    "AllRule",
    "AnyRule",
    "DuplicateRule",
    "FilterResult",
    "FilterSpec",
    "LiteralRule",
    "NoneRule",
    "NumbersRule",
    "RegexRule",
    "Rule",
    "explain",
    "load_rules",
    "name_shards",
    "run",
]
