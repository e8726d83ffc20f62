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

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import subl_core
from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator

from subl.artifact import StageSpec
from subl.config import load_toml
from subl.filter.concept.spec import Text
from subl.filter.rules import Rule
from subl.shipped import file_of


class OutputSpec(BaseModel):
    """The files that are written: kept rows, and (compressed alike) rejects."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    split_rows: Annotated[int, Field(gt=0, lt=2**63)] | None = Field(
        None, description="start another file of kept rows after so many"
    )
    split_bytes: Annotated[ByteSize, Field(gt=0, lt=2**63)] | None = Field(
        None,
        description="start another file of kept rows before it exceeds this, uncompressed;"
        ' "512MiB" are 512 * 2**20 bytes, "2G" 2 * 10**9',
    )
    compression: Literal["auto", "none", "gz", "zst"] = Field(
        "auto", description="auto: as the input; Parquet keeps its own whatever is said here"
    )


class FilterSpec(StageSpec):
    """The rules of a filter. All are asked for every row; reasons come in the order given here."""

    # A file has `[[rule]]` tables; code and records say `rules`.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    format_version: ClassVar = 4
    packages: ClassVar = ()

    rules: tuple[Rule, ...] = Field(
        validation_alias="rule", min_length=1, max_length=64, description="`[[rule]]` tables"
    )
    max_line_bytes: int = Field(
        16 * 1024 * 1024, gt=0, lt=2**31, description="longer lines are rejected unread"
    )
    tag_field: Text = Field("filter_tags", description="the key of the tags in a kept row")
    output: OutputSpec = Field(OutputSpec(), description="the files that are written")

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        # A PlanError is a ValueError, so that pydantic reports it like its own findings.
        self.plan()
        return self

    def plan(self) -> subl_core.Plan:
        """The rules, compiled."""
        return _compiled(self.plan_json())

    def plan_json(self) -> str:
        """The plan as the engine reads it."""
        plan = {
            "rules": [rule.plan() for rule in self.rules],
            "max_line_bytes": self.max_line_bytes,
            "tag_field": self.tag_field,
        }
        return json.dumps(plan, ensure_ascii=False)


@lru_cache(maxsize=4)
def _compiled(plan: str) -> subl_core.Plan:
    """Cached, since a plan is compiled where a specification is checked and where it is used."""
    return subl_core.Plan(plan)


def load_rules(path: Path | str) -> FilterSpec:
    """Read a rules file, by its path or by the name of a shipped one.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is not TOML, has unknown or missing keys, or a pattern does not compile.
    """
    return load_toml(file_of(path, "rules"), FilterSpec)
