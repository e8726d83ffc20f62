"""`subl scan explain`: the tokens of a row that speak for a trait."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import model_folder, model_option
from subl_cli.output import json_option, print_json, printable, progress, table


@click.command("explain")
@click.argument("scanned", metavar="SCAN", type=click.Path(path_type=Path))
@model_option("--model", "The base of the scan.")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="The rows that were scanned. Repeatable.",
)
@click.option(
    "--row", required=True, type=int, help="Of scores.parquet, from 0: by hash, not as in the data."
)
@json_option
def command(scanned: Path, model: str, data: tuple[Path, ...], row: int, as_json: bool) -> None:
    """Show which tokens of a row speak for the nearest trait.

    \b
    Example:
      subl scan explain out/scan --model models/smollm2 --data out/rows --row 3
    """
    from subl.audit.scan.explain import explain

    with progress() as report:
        found = explain(scanned, model_folder(model, report), data, [row])[0]
    if as_json:
        print_json(found)
        return
    name = f" ({printable(found['id'])})" if found["id"] else ""
    click.echo(
        f"row {row}{name}, nats of each token for `{printable(found['nearest'])}`: over the base,"
    )
    click.echo("and over the mean of the prompts that stand for nothing\n")
    rows = [
        (
            repr(each["text"])[1:-1].replace(" ", "␣"),
            f"{each['over_base']:+.3f}",
            f"{each['over_neutral']:+.3f}",
        )
        for each in found["tokens"]
    ]
    over_base = sum(each["over_base"] for each in found["tokens"])
    over_neutral = sum(each["over_neutral"] for each in found["tokens"])
    rows.append(("all", f"{over_base:+.3f}", f"{over_neutral:+.3f}"))
    click.echo(table(rows, ("token", "over the base", "over neutral")))
