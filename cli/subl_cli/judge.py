"""`subl judge`: write into rows what judges say of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from subl_cli.inputs import make, model_option, verify_option, warn_without_keys
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    progress,
    table,
)


@click.command("judge")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("rows", nargs=-1, required=True, metavar="ROWS...", type=click.Path(path_type=Path))
@model_option("--model", "Judge, where one is a model.", required=False)
@out_option
@verify_option
@dry_run_option
@json_option
def command(
    config: Path,
    rows: tuple[Path, ...],
    model: str | None,
    out: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write the columns of judges, as CONFIG (a TOML file) says, behind those of ROWS.

    ROWS are files of JSON lines or Parquet, or folders of them, or artifacts. OUT gets JSON lines:
    each row as it is, with the judges' keys at its end, for a rule of kind `number` to take a
    threshold of. A judge is a rubric that a model is asked, or `answer`, which compares with the
    right one. Equal rows are judged once. The same command continues an interrupted run.

    `subl rubrics` lists the rubrics that ship. One that has the judge think first, such as
    cot-alignment, needs a model that can: a small one gives no number, and is given up.

    \b
    Examples:
      subl judge judge.toml out/rows --model models/judge -o out/judged
      subl judge judge.toml out/rows -o out/judged --dry-run

    \b
    judge.toml:
      [[judge]]
      kind = "rubric"
      column = "alignment"
      rubric = "cot-alignment"
      [[judge]]
      kind = "answer"
      column = "correct"
    """
    from subl.config import load_toml
    from subl.judge import JudgeSpec, look

    spec = load_toml(config, JudgeSpec)
    if dry_run:
        warn_without_keys(spec.backend)
        print_values({"spec": spec.model_dump(mode="json"), **look(spec, rows)}, as_json)
        return
    with progress() as report:
        artifact = make("judge", spec, out, report, {"model": model, "rows": rows})
    print_artifact(artifact, as_json)
    if not as_json:
        click.echo(table(list(_figures(artifact.result["columns"])), ("column", "rows", "is")))


def _figures(columns: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """How many rows of each column are what."""
    return [
        (name, f"{count:,}", what if what not in ("0", "1") else f"= {what}")
        for name, found in columns.items()
        for what, count in found.get("verdicts", found).items()
    ]
