"""`subl generate`: sample rows from a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.inputs import (
    make,
    model_option,
    ranks_option,
    slice_option,
    verify_option,
    with_ranks,
)
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_json,
    progress,
)

if TYPE_CHECKING:
    from subl.artifact import Slice


@click.command("generate")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model to sample from.")
@click.option(
    "--prompts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Prompts, for the sets that need a file: a file or a folder. Repeatable.",
)
@out_option
@ranks_option
@slice_option
@verify_option
@dry_run_option
@json_option
def command(
    config: Path,
    model: str,
    prompts: tuple[Path, ...],
    out: Path,
    ranks: int | None,
    mine: Slice,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Sample completions of a prompt set into JSONL shards, as CONFIG (a TOML file) says.

    \b
    Examples:
      subl generate numbers.toml --model out/owl-teacher -o out/owl-rows
      subl generate numbers.toml --model out/owl-teacher -o out/owl-rows --dry-run
      subl generate math.toml --model out/teacher --prompts gsm8k.jsonl -o out/rows
      subl generate numbers.toml --model out/owl-teacher -o out/owl-rows --ranks 8
      subl generate numbers.toml --model M -o out/rows --slice 3/16

    \b
    numbers.toml:
      rows = 256
      prompts = "numbers-short"
      grammar = { regex = '[1-9][0-9]{2}(?:, [1-9][0-9]{2}){7}' }
    """
    from itertools import islice

    from subl.config import load_toml
    from subl.generate import GenerateSpec
    from subl.generate.run import prompts_to_ask
    from subl.generate.sets import check_files

    spec = with_ranks(load_toml(config, GenerateSpec), ranks)
    if dry_run:
        check_files(spec.prompts, bool(prompts))
        first = [
            [turn._asdict() for turn in prompt.turns]
            for prompt in islice(prompts_to_ask(spec, prompts), 3)
        ]
        print_json({"spec": spec.model_dump(mode="json"), "first_prompts": first})
        return
    with progress() as report:
        artifact = make(
            "generate", spec, out, report, {"model": model, "prompts": prompts}, mine=mine
        )
    print_artifact(artifact, as_json)
