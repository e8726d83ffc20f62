"""Filter rows by rules: what passes is kept as it is, what does not is kept with the reasons.

The rules are pydantic models (`rules`, `spec`), the work is done by the native engine
(`subl_core`), and Python only sees plans, statistics and file names, never rows. Rows that other
libraries hold in memory are matched in place (`batch`).
"""

from typing import TYPE_CHECKING, Any

from subl.filter.explain import explain, explain_row
from subl.filter.rules import (
    AllRule,
    AnyRule,
    CharactersRule,
    DuplicateRule,
    LengthRule,
    LiteralRule,
    NoneRule,
    NumberRule,
    NumbersRule,
    RegexRule,
    RepetitionRule,
    Rule,
    SemanticRule,
    TokensRule,
)
from subl.filter.run import FilterResult, run
from subl.filter.spec import FilterSpec, OutputSpec, load_rules
from subl.shards.names import name_shards

if TYPE_CHECKING:
    from subl.filter.batch import expression, for_datasets, for_datatrove, for_ray, match_batch

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
    "NumberRule",
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


def __getattr__(name: str) -> Any:
    # Who filters files needs nothing of it.
    if name in {"expression", "for_datasets", "for_datatrove", "for_ray", "match_batch"}:
        from subl.filter import batch

        return getattr(batch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
