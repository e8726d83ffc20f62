"""What a scan is told."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from subl.artifact import StageSpec
from subl.audit.scan.bank import BankSpec, load_bank
from subl.model.template import Template
from subl.sample.grammar import NamedGrammar


def _named(value: object) -> object:
    return load_bank(value) if isinstance(value, str) else value


NamedBank = Annotated[BankSpec, BeforeValidator(_named, json_schema_input_type=BankSpec | str)]
"""A bank, or the path or the name of one."""


class ScanSpec(StageSpec):
    """Which candidates of a bank may have written rows."""

    format_version: ClassVar = 4
    packages: ClassVar = ("torch", "transformers", "llguidance", "polars")

    bank: NamedBank = Field(
        default_factory=lambda: load_bank("personas"),
        description="candidates, or the path or name of a bank; default: personas",
    )
    kinds: tuple[str, ...] = Field((), description="of candidates; default: all of the bank")
    rows: int = Field(1000, gt=0, description="that are looked at, at most")
    alpha: float = Field(
        0.01, gt=0, lt=0.5, description="how often a true candidate may be excluded, at most"
    )
    clip: float = Field(
        2.0, gt=0, description="nats a row by which one candidate may be better than another"
    )
    exhaustive: bool = Field(
        False,
        description="ask about every row under every candidate: what finds a small share of rows "
        "that are a candidate's",
    )
    temperature: float | None = Field(
        None,
        gt=0,
        description="that rows were drawn at; default: as their record says, else unknown",
    )
    grammar: NamedGrammar | None = Field(
        None,
        description="that rows were held to while they were drawn; default: as their record says",
    )
    template: Template = Template()
    pilot_rows: int = Field(
        32,
        gt=0,
        description="that a pilot chooses candidates by, at most half of all; the scan then looks "
        "at others",
    )
    pilot_keep: int = Field(
        16, gt=0, description="candidates that a pilot leaves, beside those that stand for nothing"
    )
    batch_rows: int = Field(16, gt=0, description="rows that are read at a time")
