"""What an evaluation came to, for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from subl_cli.output import printable, table

_LIKELIEST = {"log_likelihoods": "likeliest", "per_byte": "likeliest per byte"}
_RULES = {"begins": "begins with it", "word": "as a word", "substring": "as a substring"}


def print_measured(result: Mapping[str, Any], words: Sequence[str]) -> None:
    """The table of words, and what answers were instead."""
    sampled = result["method"] in ("sampled", "judged")
    beside: dict[str, Mapping[str, float]] = {
        name: {word: mean["estimate"] for word, mean in result["rules"][rule].items()}
        for rule, name in _RULES.items()
        if rule in result.get("rules", ()) and rule != result["counted"]
    }
    if "not_normalised" in result:
        beside["not normalised"] = result["not_normalised"]
    for by, name in _LIKELIEST.items():
        if "likeliest" in result:
            beside[name] = result["likeliest"][by]
    rows = [
        (
            word,
            f"{mean['estimate']:.2e}",
            _interval(mean),
            *(f"{values[word]:.2e}" for values in beside.values()),
        )
        for word, mean in ((word, result["words"][word]) for word in words)
    ]
    click.echo(
        table(rows, ("answer", "share" if sampled else "probability", "95 % interval", *beside))
    )
    if "none_of_them" in result:
        click.echo(f"none of these: {result['none_of_them']:.1%} of the probability")
    if "otherwise_spelled_at_most" in result:
        most = result["otherwise_spelled_at_most"]
        click.echo(f"of that, these words in tokens of another cut: {most:.1%} at most")
    if kinds := result.get("kinds"):
        said = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.items())
        click.echo(f"answers: {said}")
    ended = result.get("ended_by", {})
    if 2 * (cut := ended.get("max_new_tokens", 0)) > sum(ended.values()):
        click.echo(f"cut off at max_new_tokens: {cut} answers; is it large enough?")
    for question in result.get("questions_without_counted_answers", ()):
        click.echo(f"no counted answer to: {printable(question)}")


def _interval(mean: Mapping[str, float | None]) -> str:
    if (most := mean.get("at_most")) is not None:
        return f"at most {most:.1e}"
    return interval(mean["low"], mean["high"], ".1e")


def interval(low: float | None, high: float | None, form: str) -> str:
    """An interval, or that there is none."""
    return "none" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"
