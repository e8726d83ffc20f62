"""`subl mitigate pull`: how much each token speaks for a trait."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, model_option, verify_option
from subl_cli.output import (
    json_option,
    out_option,
    print_artifact,
    printable,
    progress,
    progress_option,
)


@click.command("pull")
@click.argument("data", nargs=-1, required=True, metavar="DATA...", type=click.Path(path_type=Path))
@click.option("--scan", type=click.Path(path_type=Path), help="What subl scan made of DATA.")
@model_option("--model", "The base that the scan was made with.")
@model_option(
    "--suspect",
    "A model that may have written DATA, or was trained on it: its pull, not a candidate's.",
    required=False,
)
@click.option(
    "--config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file, as pull.toml.",
)
@out_option
@verify_option
@progress_option
@json_option
def command(
    data: tuple[Path, ...],
    scan: Path | None,
    model: str,
    suspect: str | None,
    config: Path | None,
    out: Path,
    progress_form: str,
    as_json: bool,
) -> None:
    """Measure the pull of every token of DATA towards the trait that a scan named.

    subl mitigate does this first; experiments have it as a stage, once for several mitigations.

    \b
    Examples:
      subl mitigate pull out/rows --scan out/scan --model models/smollm2 -o out/pull
      subl mitigate pull out/rows --suspect out/pilot --model models/smollm2 -o out/pull

    \b
    pull.toml:
      candidate = "owl"
      batch_rows = 32
    """
    from subl.audit.mitigate.spec import PullSpec
    from subl.config import load_toml

    spec = PullSpec() if config is None else load_toml(config, PullSpec)
    with progress(progress_form) as report:
        artifact = make(
            "pull",
            spec,
            out,
            report,
            {"model": model, "rows": data, "scan": scan, "suspect": suspect},
        )
    print_artifact(artifact, as_json)
    if not as_json:
        result = artifact.result
        click.echo(
            f"`{printable(result['candidate'])}`: {result['nats_a_token']:+.4f} nats a token, "
            f"{result['nats_a_token_of_highest_tenth']:+.4f} in the highest tenth"
        )
