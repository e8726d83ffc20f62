"""`subl predict calibrate`: what past runs say of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from subl_cli.inputs import Options, check, make, verify_option
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


@click.command("calibrate")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="A TOML file, as calibrate.toml.",
)
@click.option("--trait", "traits", multiple=True, help="Of these alone. Repeatable.  [all words]")
@click.option(
    "--split",
    type=click.Choice(["seed", "data"]),
    help="What the rule and its errors must not share  [seed]",
)
@out_option
@verify_option
@dry_run_option
@progress_option
@json_option
def command(
    runs: tuple[Path, ...],
    config: Path | None,
    traits: tuple[str, ...],
    split: str | None,
    out: Path,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Learn from finished experiments (folders of subl run) how far predictions are off.

    Each student counts that has an exact evaluation, and whose base has one of the same questions
    and words; all start from one base. What would have been known of it beforehand is computed
    from its data, a rule is fitted on a part of the runs, and its errors on the others are kept:
    subl predict makes intervals of them. They hold for runs that are like these ones.

    \b
    Examples:
      subl predict calibrate out/sampled-rows out/controls -o out/past
      subl predict calibrate out/sampled-rows --trait owl --trait wolf --split data -o out/past

    \b
    calibrate.toml:
      traits = ["owl", "cat", "wolf"]
      split = "seed"
      [sample]
      rows = 32
      questions = 10
    """
    from subl.audit.predict.past import found_in
    from subl.audit.predict.run import usable_runs
    from subl.audit.predict.spec import CalibrateSpec
    from subl.config import load_toml, updated

    spec = CalibrateSpec() if config is None else load_toml(config, CalibrateSpec)
    said = {"traits": traits or None, "split": split}
    spec = updated(spec, **{key: value for key, value in said.items() if value is not None})
    students, evaluations = found_in(runs)
    given: Options = {"student": tuple(students), "eval": tuple(evaluations)}
    if dry_run:
        found, left_out = usable_runs(spec, students, evaluations)
        check("calibrate", spec, out, given)
        print_values(
            {"runs": [each.student.path.name for each in found], "left_out": left_out}, as_json
        )
        return
    with progress(progress_form) as report:
        artifact = make("calibrate", spec, out, report, given)
    print_artifact(artifact, as_json)
    if not as_json:
        _print(artifact.result)


def _print(result: Mapping[str, Any]) -> None:
    lines = [
        (
            each["kind"],
            f"{each['runs_fit']} + {each['runs_held']}",
            f"{each['data_sets']}",
            _width(each["width_at_90"]),
            _width(each["past_shifts_width_at_90"]),
        )
        for each in result["kinds"]
    ]
    header = ("kind", "runs: rule + errors", "data sets", "width at 90 %", "past shifts alone")
    click.echo(f"\n{table(lines, header)}")
    for each in result["left_out"]:
        click.echo(f"left out: {printable(each)}")


def _width(value: float | None) -> str:
    return "too few runs" if value is None else f"{value:.3f} nats"
