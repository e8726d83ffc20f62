"""`subl predict check`: a prediction against what was measured."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.output import json_option, print_json, printable


@click.command("check")
@click.argument("prediction", type=click.Path(path_type=Path))
@click.option(
    "--eval",
    "evaluation",
    required=True,
    type=click.Path(path_type=Path),
    help="The student's evaluation.",
)
@click.option(
    "--base",
    required=True,
    type=click.Path(path_type=Path),
    help="The base's evaluation, of the same questions.",
)
@click.option(
    "--student",
    type=click.Path(path_type=Path),
    help="The student, where it is not where it was evaluated.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="Whose signatures count, as for subl verify: then the prediction must be signed.",
)
@json_option
def command(
    prediction: Path,
    evaluation: Path,
    base: Path,
    student: Path | None,
    policy: Path | None,
    as_json: bool,
) -> None:
    """Say whether the measured shift lies in the interval of a prediction, which was made before.

    Files are read and compared with the prediction's statement; the student must have been trained
    from the same base, on the same data, by the same training (its seed is free). When either was
    made is as their statements say: signatures bind these, but who signs has the clock.

    Exits with 0: inside; 1: outside, or the prediction is of something else, or not signed as the
    policy asks; 4: cannot tell (no interval, made after the training began, no record of it).

    \b
    Examples:
      subl predict check out/shift --eval out/student-eval --base out/base-eval
      subl predict check out/shift --eval out/student-eval --base out/base-eval --policy p.toml
    """
    from dataclasses import asdict

    from subl.audit.predict.check import EXIT, check

    asked = None
    if policy is not None:
        from subl.sign.policy import load_policy

        asked = load_policy(policy)
    found = check(prediction, evaluation, base, student=student, policy=asked)
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(printable(found.sentence))
        began = found.training_began
        click.echo(
            f"made {_time(found.made)}"
            + ("" if began is None else f", training began {_time(began)}")
        )
        for each in found.predicted["outside"]:
            click.echo(f"it had no guarantee: {printable(each)}")
        if found.signers:
            click.echo(f"signed by {printable(', '.join(found.signers))}")
    click.get_current_context().exit(EXIT[found.outcome])


def _time(text: str) -> str:
    """To the second: `--json` has the rest."""
    from datetime import datetime

    return datetime.fromisoformat(text).isoformat(" ", "seconds")
