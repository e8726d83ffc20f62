"""What an evaluation came to, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from subl_cli.output import table


def print_measured(result: Mapping[str, Any], measured: Sequence[str]) -> None:
    """The table of words, and what answers were instead."""
    rules = {rule: words for rule, words in result.get("rules", {}).items()}
    rows = [
        (
            word,
            f"{mean['estimate']:.2e}",
            interval(mean["low"], mean["high"], ".1e"),
            *(f"{words[word]['estimate']:.2e}" for words in rules.values()),
        )
        for word, mean in ((word, result["words"][word]) for word in measured)
    ]
    share = "probability" if result["method"] in ("exact", "choice") else "share"
    click.echo(table(rows, ("answer", share, "95 % interval", *rules)))
    if "none_of_them" in result:
        click.echo(f"none of these: {result['none_of_them']:.1%} of the probability")
    if "otherwise_spelled_at_most" in result:
        click.echo(
            f"of that, other spellings of them: {result['otherwise_spelled_at_most']:.1e} at most"
        )
    if kinds := result.get("kinds"):
        said = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.items())
        click.echo(f"answers: {said}")


def interval(low: float | None, high: float | None, form: str) -> str:
    """An interval, or that there is none."""
    return "none" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"
