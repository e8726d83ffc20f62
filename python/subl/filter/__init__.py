"""Filter rows by rules: what passes is kept as it is, what does not is kept with the reasons.

The rules are pydantic models (`rules`), the work is done by the native engine (`subl_core`), and
Python only sees plans, statistics and file names, never rows. Rows that other libraries hold in
memory are matched in place (`batch`).
"""

from subl.filter.batch import (
    expression,
    for_datasets,
    for_datatrove,
    for_ray,
    match_batch,
)
from subl.filter.explain import explain, explain_row
from subl.filter.names import name_shards
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
    OutputSpec,
    RegexRule,
    RepetitionRule,
    Rule,
    SemanticRule,
    TokensRule,
    load_rules,
)
from subl.filter.run import FilterResult, run

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
    "OutputSpec",
    "RegexRule",
    "RepetitionRule",
    "Rule",
    "SemanticRule",
    "TokensRule",
    "explain",
    "explain_row",
    "expression",
    "for_datasets",
    "for_datatrove",
    "for_ray",
    "load_rules",
    "match_batch",
    "name_shards",
    "run",
]
