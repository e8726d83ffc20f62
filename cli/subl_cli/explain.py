"""`subl filter explain`: why one row is kept or rejected."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from subl_cli.inputs import Shipped
from subl_cli.output import json_option, print_json, printable

_CONTEXT_CHARACTERS = 24
_SPAN_CHARACTERS = 48


@click.command("explain")
@click.argument("rules", type=Shipped("rules"))
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--row",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="The row's line number, from 1: the `line` of the rejects.",
)
@json_option
def command(rules: Path, file: Path, row: int, as_json: bool) -> None:
    """Say what each rule of RULES finds in row N of FILE (.jsonl, .jsonl.gz, .jsonl.zst, .parquet).

    FILE may be - for stdin. The exit code is 0 whatever the verdict is. What a terminal might obey
    or hide is shown as an escape; --json prints the engine's verdict.

    \b
    Examples:
      subl filter explain rules.toml rows.jsonl --row 3
      subl filter explain rules.toml data/a.jsonl.zst --row 120034 --json
    """
    from subl.filter import load_rules
    from subl.filter.explain import explain_row, reason_value

    spec = load_rules(rules)
    verdict = explain_row(spec, file, row)
    if as_json:
        print_json(verdict)
        return
    name = "stdin" if str(file) == "-" else printable(str(file))
    if verdict is None:
        click.echo(f"{name}, row {row}: blank, neither kept nor rejected")
        return
    click.echo(f"{name}, row {row}: {_state(verdict)}")
    for reason in verdict["unreadable"]:
        field = f" `{printable(reason['field'])}`" if reason["field"] else ""
        click.echo(f"  unreadable{field}: {reason['reason']}: {printable(reason['detail'])}")
    if verdict["unreadable"]:
        click.echo("  no rule was asked")
        return
    for rule in verdict["rules"]:
        _print_rule(rule)
        for reason in rule["reasons"]:
            click.echo(f"      {printable(reason['reason'])}{_place(reason)}")
            value = reason_value(verdict, reason)
            if value is not None:
                _print_excerpt(value, reason["span"])
    shown = {reason["field"] for rule in verdict["rules"] for reason in rule["reasons"]}
    for field, texts in verdict["values"].items():
        if field not in shown:
            for text in texts:
                click.echo(f"  {printable(field)}:")
                _print_excerpt(text.encode(), None)


def _state(verdict: Mapping[str, Any]) -> str:
    if not verdict["kept"]:
        return click.style("dropped", fg="red", bold=True)
    tags = ", ".join(printable(tag) for tag in verdict.get("tags", ()))
    asked = all(rule["broken"] is not None for rule in verdict["rules"])
    state = "kept" if asked else "kept, as far as this row alone decides"
    return click.style(state, fg="green", bold=True) + (f", tagged {tags}" if tags else "")


def _print_rule(rule: Mapping[str, Any]) -> None:
    action = rule.get("action", "drop")
    if rule["broken"] is None:
        mark = click.style("not asked", fg="yellow")
        click.echo(f"  {mark}  {printable(rule['name'])} ({rule['kind']}): other rows decide")
        return
    if not rule["broken"]:
        mark = click.style("passes", fg="green")
    else:
        mark = click.style("breaks", fg="red" if action == "drop" else "yellow")
    what = rule["kind"] if action == "drop" else f"{rule['kind']}, {action}"
    click.echo(f"  {mark}  {printable(rule['name'])} ({what})")


def _place(reason: Mapping[str, Any]) -> str:
    field = f"`{printable(str(reason['field']))}`" if reason["field"] else ""
    if field and reason.get("value") is not None:
        field += f", value {reason['value'] + 1}"
    if reason["span"] is None:
        return f"  in {field}" if field else ""
    start, end = reason["span"]
    return f"  in {field}, bytes {start} to {end}"


def _print_excerpt(value: bytes, span: list[int] | None) -> None:
    """The part of a value around the span, marked: by a line of carets, in red on a terminal."""
    if span is None:
        click.echo(f"        {_shortened(printable(value.decode(errors='replace')), 76)}")
        return
    before, marked, after = (
        part.decode(errors="replace")
        for part in (value[: span[0]], value[span[0] : span[1]], value[span[1] :])
    )
    left = printable(before[-_CONTEXT_CHARACTERS:])
    left = ("…" if len(before) > _CONTEXT_CHARACTERS else "") + left
    right = printable(after[:_CONTEXT_CHARACTERS])
    right += "…" if len(after) > _CONTEXT_CHARACTERS else ""
    middle = printable(_shortened(marked, _SPAN_CHARACTERS))
    click.echo(f"        {left}{click.style(middle, fg='red', bold=True)}{right}")
    click.echo(f"        {' ' * _width(left)}{'^' * max(1, _width(middle))}")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _width(text: str) -> int:
    """Columns on a terminal."""
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )
