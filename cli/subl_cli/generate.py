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
    warn_without_keys,
    with_ranks,
)
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    progress,
)

if TYPE_CHECKING:
    from subl.artifact import Slice


@click.command("generate")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model to sample from, unless a server has it.", required=False)
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
    model: str | None,
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
      subl generate served.toml -o out/rows

    \b
    numbers.toml:
      rows = 256
      prompts = "numbers-short"
      grammar = { regex = '[1-9][0-9]{2}(?:, [1-9][0-9]{2}){7}' }
      # Or of a server, without --model:
      # backend = { kind = "http", base_url = "http://127.0.0.1:8000/v1", model = "owl" }
    """
    from itertools import islice

    from subl.config import load_toml
    from subl.generate import GenerateSpec
    from subl.generate.run import prompts_to_ask
    from subl.generate.sets import check_files
    from subl.generate.stage import expected
    from subl.sample import check_model

    spec = with_ranks(load_toml(config, GenerateSpec), ranks, mine)
    if dry_run:
        check_files(spec.prompts, bool(prompts))
        check_model(spec.backend, [] if model is None else ["model"])
        warn_without_keys(spec.backend)
        first = [
            [turn._asdict() for turn in prompt.turns]
            for prompt in islice(prompts_to_ask(spec, prompts), 3)
        ]
        told = {"spec": spec.model_dump(mode="json"), "first_prompts": first}
        print_values(
            told | ({} if spec.rows is None else {"expected": expected(spec, spec.rows)}), as_json
        )
        return
    with progress() as report:
        artifact = make(
            "generate", spec, out, report, {"model": model, "prompts": prompts}, mine=mine
        )
    print_artifact(artifact, as_json)
