"""`subl predict`: how far a trait will shift, before the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from subl_cli.group import CommandWithSubcommands, complete_first
from subl_cli.inputs import Options, check, make, model_option, verify_option
from subl_cli.output import (
    dry_run_option,
    json_option,
    out_option,
    print_artifact,
    print_values,
    printable,
    progress,
    progress_option,
    table,
)


@click.command(
    "predict",
    cls=CommandWithSubcommands,
    subcommands={
        "calibrate": "Learn from finished runs how far predictions are off.",
        "check": "Hold a prediction against what was measured.",
    },
    modules={"calibrate": "predict_calibrate", "check": "predict_check"},
)
@click.argument(
    "data",
    nargs=-1,
    required=True,
    metavar="DATA...",
    type=click.Path(path_type=Path),
    shell_complete=complete_first,
)
@model_option("--model", "The base that the student is to start from.")
@click.option("--trait", help="A word of the evaluation's list; overrides the CONFIG.")
@click.option(
    "--config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file, as predict.toml.",
)
@click.option(
    "--distill",
    "training",
    metavar="DISTILL",
    type=click.Path(path_type=Path),
    help="The planned training, as subl distill takes it; overrides the CONFIG.",
)
@click.option(
    "--eval",
    "evaluation",
    metavar="EVAL",
    type=click.Path(path_type=Path),
    help="The planned evaluation, as subl eval takes it; overrides the CONFIG.",
)
@click.option("--updates", type=click.IntRange(min=1), help="Planned; overrides both files.")
@model_option("--teacher", "Whose distributions the student is to learn.", required=False)
@click.option("--cache", type=click.Path(path_type=Path), help="What subl distill cache made.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Past runs, as subl predict calibrate has them: without, no shift is stated, only what "
    "one step does.",
)
@click.option(
    "--pilot",
    is_flag=True,
    help="Also train adapters for 8, 16 and 32 updates, and extend the line.",
)
@click.option("--alpha", type=float, help="Share of runs that the interval may miss  [0.1]")
@out_option
@verify_option
@dry_run_option
@progress_option
@json_option
def command(
    data: tuple[Path, ...],
    model: str,
    trait: str | None,
    config: Path | None,
    training: Path | None,
    evaluation: Path | None,
    updates: int | None,
    teacher: str | None,
    cache: Path | None,
    calibration: Path | None,
    pilot: bool,
    alpha: float | None,
    out: Path,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """State by how much a student of DATA will shift a trait's log-odds, before it is trained.

    The base reads a sample of the rows: how much better does the trait's persona predict them than
    neutral prompts do, and where does one step of the planned training move the trait? A rule that
    was fitted on past runs makes a shift of that; its errors on other past runs give the interval.
    Where base, carrier, dose, trait or evaluation are not among those runs', that is said, and the
    interval guarantees nothing. Beside it stands what one would say who knows past shifts alone.

    Sign it (subl sign OUT) before the training; subl predict check holds it against the evaluation.

    \b
    Examples:
      subl predict out/rows --model models/smollm2 --trait owl --distill sft.toml -o out/shift
      subl predict out/rows --model models/smollm2 --config predict.toml \\
        --calibration out/past -o out/shift
      subl predict out/rows --model models/smollm2 --trait owl --distill sft.toml --pilot -o out/p

    \b
    predict.toml:
      trait = "owl"
      alpha = 0.1
      pilot = [8, 16, 32]
      [distill]
      targets = "labels"
      [distill.train]
      steps = 64
      learning_rate = 2e-4
      lora = { rank = 8, alpha = 16 }
      [eval]
      words = "gpt-4.1-nano"
    """
    from subl.audit.predict.calibration import load
    from subl.audit.predict.features import size_of
    from subl.audit.predict.past import Dose
    from subl.audit.predict.run import sample_of

    spec = _spec(config, trait, training, evaluation, updates, pilot, alpha)
    given: Options = {
        "model": model,
        "rows": data,
        "teacher": teacher,
        "cache": cache,
        "calibration": calibration,
    }
    if dry_run:
        check("predict", spec, out, given)
        past = None if calibration is None else load(calibration)
        rows = size_of(data)
        print_values(
            {
                "trait": spec.trait,
                "rows": rows,
                "dose": vars(Dose.of(spec.distill, rows)),
                "sample": sample_of(spec, past).model_dump(mode="json", exclude={"bank"}),
                "past_runs": None if past is None else len({each.run for each in past.pairs}),
            },
            as_json,
        )
        return
    with progress(progress_form) as report:
        artifact = make("predict", spec, out, report, given)
    print_artifact(artifact, as_json)
    if not as_json:
        _print(artifact.result)


def _spec(
    config: Path | None,
    trait: str | None,
    training: Path | None,
    evaluation: Path | None,
    updates: int | None,
    pilot: bool,
    alpha: float | None,
) -> Any:
    """The file, with what the command line says."""
    from subl.audit.predict.spec import PredictSpec
    from subl.config import load_toml, updated, validated
    from subl.distill import DistillSpec
    from subl.evaluate import EvalSpec

    given: dict[str, Any] = {
        "trait": trait,
        "alpha": alpha,
        "pilot": (8, 16, 32) if pilot else None,
    }
    given["distill"] = None if training is None else load_toml(training, DistillSpec)
    given["eval"] = None if evaluation is None else load_toml(evaluation, EvalSpec)
    given = {key: value for key, value in given.items() if value is not None}
    if config is not None:
        spec = load_toml(config, PredictSpec, given)
    else:
        for key, option in (("trait", "--trait"), ("distill", "--distill")):
            if key not in given:
                raise click.UsageError(f"Missing option '{option}': there is no --config.")
        spec = validated(PredictSpec, given)
    if updates is not None:
        train = updated(spec.distill.train, steps=updates, epochs=None)
        spec = updated(spec, distill=updated(spec.distill, train=train))
    return spec


def _print(result: Mapping[str, Any]) -> None:
    click.echo(f"\n{printable(result['sentence'])}")
    for each in result["outside"]:
        click.echo(f"  outside: {printable(each)}")
    dose = result["dose"]
    click.echo(
        f"\n{result['kind']}: {dose['updates']:,} updates of {dose['rows_per_step']} rows, "
        f"{result['reading']['looked_at']} of {result['reading']['rows']:,} rows looked at"
    )
    lines = [("prediction", *_ends(result))]
    others = {
        "past_shifts_of_trait": f"past shifts of {result['trait']} alone",
        "past_shifts": "past shifts of all traits alone",
        "pilot": "line through pilots",
    }
    for key, name in others.items():
        if result[key] is not None:
            lines.append((name, *_ends(result[key])))
    if result["estimate"] is not None or len(lines) > 1:
        click.echo()
        click.echo(table(lines, ("shift in nats", "estimate", "low", "high")))


def _ends(found: Mapping[str, Any]) -> tuple[str, str, str]:
    low, middle, high = (
        "-" if found[key] is None else f"{found[key]:+.3f}" for key in ("low", "estimate", "high")
    )
    return middle, low, high
