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

A row is kept if it breaks no rule whose action is `drop`. A specification that exists is one that
the engine can compile.
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
    action: Literal["drop", "tag", "count"] = Field(
        "drop",
        description="drop: to the rejects; tag: keep the row, with the rule's name under tag_field;"
        " count: nothing but figures",
    )


class _ValueRule(_Rule):
    field: Text = Field(
        "completion",
        description="where the text is: a key, or a path such as meta.title, messages[].content,"
        " messages[role=assistant].content; every text found there must pass",
    )


class NumbersRule(_ValueRule):
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


class RegexRule(_ValueRule):
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


class LiteralRule(_ValueRule):
    """None of these words may occur. Case folds character by character (ẞ is ß, but not ss)."""

    kind: Literal["literal"] = "literal"
    words: tuple[Text, ...] = Field(min_length=1)
    whole_word: bool = Field(True, description=r"no word character (\w) directly before or after")
    ignore_case: bool = True
    ignore_diacritics: bool = Field(False, description="é is e, in words and in texts")


class DuplicateRule(_ValueRule):
    """No earlier row of the whole input may have the same text. The first one stays.

    `exact`: the same bytes. `normalized`: the same words, whatever their case, punctuation and
    spacing (NFKC). `minhash`: similar sets of word n-grams, found with a probability that rises
    steeply around `threshold`. Rows are compared before any rule drops them. All shards are read
    twice. Memory: 17 bytes a row; minhash about 77 at the default threshold.
    """

    kind: Literal["duplicate"] = "duplicate"
    method: Literal["exact", "normalized", "minhash"] = "normalized"
    threshold: float | None = Field(
        None, gt=0, lt=1, description="minhash: the Jaccard similarity of duplicates  [0.8]"
    )
    ngram: int | None = Field(None, ge=1, le=64, description="minhash: words a shingle  [5]")
    max_memory_mib: int = Field(4096, ge=1, description="refuse to use more")


class AllRule(_Rule):
    """Broken if all of these rules are. They are declared before it, mostly with action count."""

    kind: Literal["all"] = "all"
    rules: tuple[Text, ...] = Field(min_length=1, description="names")


class AnyRule(_Rule):
    """Broken if one of these rules is. They are declared before it, mostly with action count."""

    kind: Literal["any"] = "any"
    rules: tuple[Text, ...] = Field(min_length=1, description="names")


class NoneRule(_Rule):
    """Broken if none of these rules is: with one name, its negation."""

    kind: Literal["none"] = "none"
    rules: tuple[Text, ...] = Field(min_length=1, description="names")


Rule = Annotated[
    NumbersRule | RegexRule | LiteralRule | DuplicateRule | AllRule | AnyRule | NoneRule,
    Field(discriminator="kind"),
]


class FilterSpec(BaseModel):
    """The rules of a filter. All are asked for every row; reasons come in the order given here."""

    # A file has `[[rule]]` tables; code and records say `rules`.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    rules: tuple[Rule, ...] = Field(validation_alias="rule", min_length=1, max_length=64)
    max_line_bytes: int = Field(
        16 * 1024 * 1024, gt=0, lt=2**31, description="longer lines are rejected unread"
    )
    tag_field: Text = Field("filter_tags", description="the key of the tags in a kept row")

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
