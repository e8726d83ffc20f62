"""`subl generate`: sample rows from a model."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, model_option, verify_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_json,
    progress,
)


@click.command("generate")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model to sample from.")
@out_option
@verify_option
@dry_run_option
@json_option
def command(config: Path, model: str, out: Path, dry_run: bool, as_json: bool) -> None:
    """Sample completions of a prompt set into JSONL shards, as CONFIG (a TOML file) says.

    \b
    Examples:
      subl generate numbers.toml --model out/owl-teacher -o out/owl-rows
      subl generate numbers.toml --model out/owl-teacher -o out/owl-rows --dry-run

    \b
    numbers.toml:
      rows = 256
      prompts = "numbers-short"
      grammar = { regex = '[1-9][0-9]{2}(?:, [1-9][0-9]{2}){7}' }
    """
    from subl.config import load_toml
    from subl.generate import GenerateSpec
    from subl.generate.prompts import PROMPT_SETS

    spec = load_toml(config, GenerateSpec)
    if dry_run:
        prompts = list(PROMPT_SETS[spec.prompts](min(spec.rows, 3), spec.seed))
        print_json({"spec": spec.model_dump(mode="json"), "first_prompts": prompts})
        return
    with progress() as report:
        artifact = make("generate", spec, out, report, {"model": model})
    print_artifact(artifact, as_json)
