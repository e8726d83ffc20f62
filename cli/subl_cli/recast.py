"""`subl recast`: another base of the same architecture."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, model_option, verify_option
from subl_cli.output import json_option, out_option, print_artifact, progress


@click.command("recast")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model whose architecture and tokenizer OUT has.")
@out_option
@verify_option
@json_option
def command(config: Path, model: str, out: Path, as_json: bool) -> None:
    """Make another base of a model's architecture, as CONFIG (a TOML file) says.

    Permuted, OUT is the same function of other weights: no weight stands where it stood. Drawn, it
    is as before any training. Students of the first show that no weight need stand where the
    teacher's does, those of the second whether the architecture is enough.

    \b
    Examples:
      subl recast permuted.toml --model models/smollm2 -o out/permuted
      subl recast drawn.toml --model models/smollm2 -o out/drawn --json

    \b
    permuted.toml:
      weights = "permuted"
      seed = 1
    """
    from subl.config import load_toml
    from subl.recast import RecastSpec

    spec = load_toml(config, RecastSpec)
    with progress() as report:
        artifact = make("recast", spec, out, report, {"model": model})
    print_artifact(artifact, as_json)
