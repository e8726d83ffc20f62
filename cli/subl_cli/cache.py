"""`subl distill cache`: a teacher's distributions on disk."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import make, model_option, rows_option, verify_option
from subl_cli.output import (
    json_option,
    out_option,
    print_artifact,
    progress,
    progress_option,
)


@click.command("cache")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@model_option("--teacher", "Model whose distributions are kept.")
@rows_option
@out_option
@verify_option
@progress_option
@json_option
def command(
    config: Path | None,
    teacher: str,
    rows: tuple[Path, ...],
    out: Path,
    progress_form: str,
    as_json: bool,
) -> None:
    """Write down what a teacher says at each target token of rows.

    Students learn from it with targets = "cache", on any of these rows in any order, as from the
    teacher itself. Without CONFIG the cache is exact (hidden states and the teacher's head); the
    likeliest tokens take a few dozen bytes a token and give the forward KL alone.

    \b
    Examples:
      subl distill cache --teacher out/owl-teacher --rows out/owl-filtered -o out/owl-cache
      subl distill cache top.toml --teacher out/owl-teacher --rows rows/ -o out/owl-cache
      subl distill cached.toml --model models/smollm2 --rows out/owl-filtered \\
        --cache out/owl-cache -o out/owl-student

    \b
    top.toml:
      codec = "top"
      max_k = 64
      mass = 0.999
    """
    from subl.config import load_toml
    from subl.distill import CacheSpec

    spec = CacheSpec() if config is None else load_toml(config, CacheSpec)
    with progress(progress_form) as report:
        artifact = make("cache", spec, out, report, {"teacher": teacher, "rows": rows})
    print_artifact(artifact, as_json)
    if not as_json:
        found = artifact.result
        click.echo(
            f"{found['target_tokens']} target tokens of {found['rows']} rows, "
            f"{found['bytes_per_token']:.0f} bytes a token; lost, in nats a token: "
            f"{found['value_kl_nats']:.1e} by rounding"
            + (
                f", {found['tail_shape_kl_nats']:.1e} of the tail's shape"
                if spec.codec == "top"
                else ""
            )
        )
