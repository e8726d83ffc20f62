"""`subl draw`: some of the rows, by chance, and their numbers in another order."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, verify_option
from subl_cli.output import json_option, out_option, print_artifact, progress


@click.command("draw")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("rows", nargs=-1, required=True, metavar="ROWS...", type=click.Path(path_type=Path))
@out_option
@verify_option
@json_option
def command(config: Path, rows: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Draw rows of ROWS, as CONFIG (a TOML file) says, and shuffle the numbers in them.

    ROWS are files of JSON lines or Parquet, or folders of them, or artifacts. OUT gets JSON lines.
    Rows whose numbers have changed places are a control: what they still hand down is no matter of
    order (within), or of which numbers a completion has (across).

    \b
    Examples:
      subl draw draw.toml out/filtered -o out/drawn
      subl draw draw.toml rows/a.jsonl rows/b.parquet -o out/drawn --json

    \b
    draw.toml:
      rows = 10000
      shuffle = "within"
    """
    from subl.config import load_toml
    from subl.draw import DrawSpec

    spec = load_toml(config, DrawSpec)
    with progress() as report:
        artifact = make("draw", spec, out, report, {"rows": rows})
    print_artifact(artifact, as_json)
