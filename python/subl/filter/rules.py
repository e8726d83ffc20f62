"""What a rules file may say.

    [[rule]]
    name = "three-digit numbers"
    kind = "numbers"
    max_value = 999
    max_count = 10

    [[rule]]
    name = "owl words"
    kind = "regex"
    patterns = ['\\bowls?\\b']
    ignore_case = true

A row is kept if it breaks no rule. A specification that exists is one that the engine can compile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import subl_core
from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.config import load_toml

Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Text = Annotated[str, Field(min_length=1)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text = Field(description="what results and rejects call the rule; unique")
    field: str = Field("completion", description="the top-level string field that it looks at")


class NumbersRule(_Rule):
    """The value must be a list of integers as in the paper's number sequences, within bounds."""

    kind: Literal["numbers"] = "numbers"
    min_value: Integer | None = Field(None, description="the smallest number allowed")
    max_value: Integer | None = Field(None, description="the largest number allowed")
    max_count: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="how many numbers are allowed"
    )
    banned_numbers: tuple[Integer, ...] = Field(
        (), description="numbers that must not occur; 0666 is 666"
    )


class RegexRule(_Rule):
    """Patterns of the regex crate of Rust: linear time, so no look-around, no back-references.

    `forbid`: none of the patterns may match. `require`: at least one must.
    """

    kind: Literal["regex"] = "regex"
    patterns: tuple[str, ...] = Field(min_length=1)
    mode: Literal["forbid", "require"] = "forbid"
    ignore_case: bool = False
    unicode: bool = Field(
        True, description=r"false: \w, \d, \s and \b are ASCII, and . matches one byte"
    )


class LiteralRule(_Rule):
    """None of these words may occur. Case folds character by character (ẞ is ß, but not ss)."""

    kind: Literal["literal"] = "literal"
    words: tuple[Text, ...] = Field(min_length=1)
    whole_word: bool = Field(True, description=r"no word character (\w) directly before or after")
    ignore_case: bool = True


Rule = Annotated[NumbersRule | RegexRule | LiteralRule, Field(discriminator="kind")]


class FilterSpec(BaseModel):
    """The rules of a filter. All are asked for every row; reasons come in the order given here."""

    # A file has `[[rule]]` tables; code and records say `rules`.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    rules: tuple[Rule, ...] = Field(validation_alias="rule", min_length=1, max_length=64)
    max_line_bytes: int = Field(
        16 * 1024 * 1024, gt=0, lt=2**31, description="longer lines are rejected unread"
    )

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        # A PlanError is a ValueError, so that pydantic reports it like its own findings.
        self.plan()
        return self

    def plan(self) -> subl_core.Plan:
        """The rules, compiled."""
        return subl_core.Plan(self.plan_json())

    def plan_json(self) -> str:
        """The plan as the engine reads it."""
        return self.model_dump_json()


def load_rules(path: Path) -> FilterSpec:
    """Read a rules file.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is not TOML, has unknown or missing keys, or a pattern does not compile.
    """
    return load_toml(path, FilterSpec)
