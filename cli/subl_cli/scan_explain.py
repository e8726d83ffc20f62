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
@click.option("--row", type=int, help="Of scores.parquet, from 0: by hash, not as in the data.")
@click.option("--id", "row_id", help="Of the row in the data, instead of --row.")
@json_option
def command(
    scanned: Path,
    model: str,
    data: tuple[Path, ...],
    row: int | None,
    row_id: str | None,
    as_json: bool,
) -> None:
    """Show which tokens of a row speak for the nearest trait.

    \b
    Examples:
      subl scan explain out/scan --model models/smollm2 --data out/rows --row 3
      subl scan explain out/scan --model models/smollm2 --data out/rows --id prompt-17-0
    """
    from subl.audit.scan.explain import explain, row_of

    if (row is None) == (row_id is None):
        raise click.UsageError("give --row or --id")
    if row is None:
        row = row_of(scanned, str(row_id))
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
