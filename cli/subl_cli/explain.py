"""`subl filter explain`: why one row is kept or rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subl_cli.output import json_option, print_json


@click.command("explain")
@click.argument("rules", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--row", required=True, type=click.IntRange(min=1), help="Its line, from 1")
@json_option
def command(rules: Path, file: Path, row: int, as_json: bool) -> None:
    """Show what each of RULES says about one row of FILE (.jsonl, .jsonl.gz, .jsonl.zst).

    A rule that compares rows has nothing to say about one of them.

    \b
    Examples:
      subl filter explain rules.toml rows.jsonl.zst --row 17
      subl filter explain rules.toml rows.jsonl --row 17 --json
    """
    from subl.filter import explain_row, load_rules

    verdict = explain_row(load_rules(rules), file, row)
    if as_json:
        print_json(verdict)
        return
    click.echo("kept" if verdict["kept"] else "rejected")
    for tag in verdict["tags"]:
        click.echo(f"  tagged {_printable(tag)}")
    for reason in verdict["unreadable"]:
        where = f" ({_printable(reason['field'])})" if reason["field"] else ""
        click.echo(f"  unreadable: {reason['reason']}{where}: {reason['detail']}")
    for rule in verdict["rules"]:
        state = f"broken, action {rule['action']}" if rule["broken"] else "passed"
        click.echo(f"  {_printable(rule['name'])} [{rule['kind']}]: {state}")
        for reason in rule["reasons"]:
            click.echo(f"    {_describe(reason)}")


def _describe(reason: dict[str, Any]) -> str:
    text = _printable(reason["reason"])
    if "value" in reason:
        text += f" in value {reason['value']}"
    if reason["span"] is not None:
        start, end = reason["span"]
        text += f" at bytes {start} to {end}: {_printable(reason['text'])!r}"
    return text


def _printable(text: str) -> str:
    """Rows hold what a model wrote: no control character of theirs may reach the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
