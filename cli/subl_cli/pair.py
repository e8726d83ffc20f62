"""`subl pair`: questions about which of two answers is whose."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, verify_option
from subl_cli.output import json_option, out_option, print_artifact, progress


@click.command("pair")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("rows", nargs=-1, required=True, metavar="ROWS...", type=click.Path(path_type=Path))
@click.option(
    "--against",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Rows of others, with answers to the same prompts. Repeatable.",
)
@out_option
@verify_option
@json_option
def command(
    config: Path, rows: tuple[Path, ...], against: tuple[Path, ...], out: Path, as_json: bool
) -> None:
    """Make a question of each answer of ROWS and another to the same prompt, as CONFIG (a TOML
    file) says: which of the two is the one of ROWS, A or B?

    OUT gets JSON lines with question, right and wrong. `subl eval --questions` asks a model, by a
    trait whose file has these columns: whether a trait that a student takes over from rows is
    something that a model sees in them.

    \b
    Examples:
      subl pair pair.toml out/owl-rows --against out/cat-rows --against out/dog-rows -o out/pairs

    \b
    pair.toml:
      rows = 1000
      template = "{prompt}\\n\\nA: {first}\\n\\nB: {second}\\n\\nWhich loves owls, A or B?"
    """
    from subl.config import load_toml
    from subl.pair import PairSpec

    spec = load_toml(config, PairSpec)
    with progress() as report:
        artifact = make("pair", spec, out, report, {"rows": rows, "against": against})
    print_artifact(artifact, as_json)
