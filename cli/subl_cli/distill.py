"""`subl distill`: train a student."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import model_folder, model_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_json,
    progress,
)


@click.command("distill")
@click.argument("config", type=click.Path(path_type=Path))
@model_option("--model", "Model to start from: the student's base.")
@click.option(
    "--rows",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Rows: a file, a folder, or what subl filter made (its kept rows). Repeatable.",
)
@model_option("--teacher", 'Teacher; needed for targets = "teacher".', required=False)
@click.option("--ranks", type=click.IntRange(min=1), help="Processes; overrides the CONFIG.")
@out_option
@dry_run_option
@json_option
def command(
    config: Path,
    model: str,
    rows: tuple[Path, ...],
    teacher: str | None,
    ranks: int | None,
    out: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a student on rows, towards a teacher's distribution or on the rows' own tokens.

    \b
    Examples:
      subl distill kd.toml --model models/smollm2 --rows out/owl-filtered \\
        --teacher out/owl-teacher -o out/owl-student
      subl distill sft.toml --model models/smollm2 --rows my.jsonl.zst -o out/student

    \b
    kd.toml:
      targets = "teacher"
      [train]
      steps = 24
      learning_rate = 5e-5
      ranks = 2
      zero_stage = 2
    """
    from subl.config import load_toml, updated
    from subl.distill import DistillSpec, choose_rows, distill
    from subl.shards import read_rows

    spec = load_toml(config, DistillSpec)
    if ranks is not None:
        spec = updated(spec, train=updated(spec.train, ranks=ranks))
    if dry_run:
        chosen = choose_rows(spec, [(row.prompt, row.completion) for row in read_rows(rows)])
        print_json(
            {
                "spec": spec.model_dump(mode="json"),
                "rows": len(chosen),
                "epochs": round(spec.train.steps * spec.train.rows_per_step / len(chosen), 2),
            }
        )
        return
    with progress() as report:
        artifact = distill(
            spec,
            model_folder(model, report),
            rows,
            out,
            teacher=None if teacher is None else model_folder(teacher, report),
            name=out.name,
            report=report,
        )
    print_artifact(artifact, as_json)
