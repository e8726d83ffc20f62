"""`subl theorem`: one small step on a teacher's labels."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.figures import figures_text
from subl_cli.inputs import make, model_option, verify_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    progress,
)


@click.command("theorem")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Language model; without, a perceptron is measured.", required=False)
@out_option
@verify_option
@dry_run_option
@json_option
def command(config: Path, model: str | None, out: Path, dry_run: bool, as_json: bool) -> None:
    """Measure whether one step on a teacher's labels moves a student towards the teacher, as CONFIG
    (a TOML file) says.

    The teacher's own step gets shorter by powers of ten. Where the student has its base, the
    product of the two steps, and the fall of the teacher's loss, get smaller in proportion: slope
    1. Where it has another, they do not: slope 0. OUT has each seed's steps, and slopes with
    intervals over seeds. The same command continues an interrupted run.

    \b
    Examples:
      subl theorem perceptron.toml -o out/theorem
      subl theorem language.toml --model models/smollm2 -o out/theorem-smollm2

    \b
    perceptron.toml:
      seeds = 20

    \b
    language.toml:
      seeds = 5
      losses = ["cross-entropy", "squared-error", "reverse-kl"]
      largest = 1e-3
      fit_below = 1e-4
      a_decade = 1
      rate = 1e-5
      lessons = 2
      rows = 2
    """
    from subl.config import load_toml
    from subl.theorem import TheoremSpec

    spec = load_toml(config, TheoremSpec)
    if dry_run:
        print_values(
            {"spec": spec.model_dump(mode="json"), "epsilons": list(spec.epsilons)}, as_json
        )
        return
    with progress() as report:
        artifact = make("theorem", spec, out, report, {"model": model})
    print_artifact(artifact, as_json)
    if not as_json:
        click.echo(figures_text(artifact.result["figures"]))
