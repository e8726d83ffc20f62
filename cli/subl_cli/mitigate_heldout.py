"""`subl mitigate heldout`: how well a model predicts rows."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, model_option, verify_option
from subl_cli.output import json_option, out_option, print_artifact, progress, progress_option


@click.command("heldout")
@click.argument("rows", nargs=-1, required=True, metavar="ROWS...", type=click.Path(path_type=Path))
@model_option("--model", "Model that is to predict ROWS.")
@click.option(
    "--config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file, as heldout.toml.",
)
@out_option
@verify_option
@progress_option
@json_option
def command(
    rows: tuple[Path, ...],
    model: str,
    config: Path | None,
    out: Path,
    progress_form: str,
    as_json: bool,
) -> None:
    """Measure the loss that training on ROWS would have under a model, in nats a token.

    Of rows that the model was not trained on it says how well it does the task: what is left of
    that when data was mitigated.

    \b
    Example:
      subl mitigate heldout out/held-out --model out/student -o out/loss

    \b
    heldout.toml:
      batch_rows = 32
    """
    from subl.audit.mitigate.spec import HeldoutSpec
    from subl.config import load_toml

    spec = HeldoutSpec() if config is None else load_toml(config, HeldoutSpec)
    with progress(progress_form) as report:
        artifact = make("heldout", spec, out, report, {"model": model, "rows": rows})
    print_artifact(artifact, as_json)
    if not as_json:
        result = artifact.result
        error = "" if result["error"] is None else f" ± {result['error']:.4f}"
        click.echo(f"{result['nats_a_token']:.4f}{error} nats a token, {result['rows']:,} rows")
