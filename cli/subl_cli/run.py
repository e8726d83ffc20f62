"""`subl run`: a whole experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.output import (
    about,
    dry_run_option,
    duration,
    json_option,
    print_json,
    progress,
    progress_option,
    say,
    table,
)

if TYPE_CHECKING:
    from subl.experiment import RunResult
    from subl.experiment.chain import StepState


@click.command("run")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the run's artifacts  [default: out/NAME]",
)
@dry_run_option
@progress_option
@json_option
def command(
    experiment: Path, out: Path | None, dry_run: bool, progress_form: str, as_json: bool
) -> None:
    """Run EXPERIMENT (a TOML file): teach, generate, filter, distill, eval, report.

    What is already done is skipped, so the same command continues an interrupted run. Exits with 1
    where the run finishes and does not show what its [expect] section asks for.

    How long it will take on this machine is measured in about a second, said before the first step,
    and corrected by every step that is done.

    \b
    Examples:
      subl run runs/demo.toml
      subl run runs/demo.toml --dry-run
      subl run my.toml -o out/my-run --json
    """
    from subl.experiment import load_experiment, plan, run

    spec = load_experiment(experiment)
    out = out or Path("out") / spec.name
    if dry_run:
        states = plan(spec, out)
        if as_json:
            print_json([_state_json(state) for state in states])
        else:
            rows = [
                (state.step.name, state.step.kind, state.state, _time(state)) for state in states
            ]
            click.echo(table(rows, ("step", "stage", "state", "time")))
            left = [state.seconds for state in states if state.state == "todo"]
            known = [seconds for seconds in left if seconds is not None]
            if left and len(known) == len(left):
                click.echo(f"\nwhat is to do takes {about(sum(known))} on this machine")
        return
    with progress(progress_form) as report:
        on_step = _say if progress_form == "auto" else _say_nothing
        result = run(spec, out, report=report, on_step=on_step)
    if as_json:
        print_json({"path": str(out), "report": str(result.report), "passed": result.passed})
    else:
        _print(result)
    if not result.passed:
        raise SystemExit(1)


def _say(state: StepState) -> None:
    took = "already done" if state.state == "done" else f"{state.seconds or 0:.1f} s"
    say(f"  {state.step.name} ({state.step.kind}): {took}")


def _say_nothing(state: StepState) -> None:
    pass


def _time(state: StepState) -> str:
    if state.seconds is None:
        return ""
    return duration(state.seconds) if state.state == "done" else about(state.seconds)


def _state_json(state: StepState) -> dict[str, str | float | None]:
    return {
        "step": state.step.name,
        "stage": state.step.kind,
        "state": state.state,
        "path": None if state.path is None else str(state.path),
        "seconds": None if state.seconds is None else round(state.seconds, 1),
    }


def _print(result: RunResult) -> None:
    matrix = result.verdict.matrix
    words = list(next(iter(matrix.values())))
    rows = [
        (model, *(f"{means[word]['estimate']:.1e}" for word in words))
        for model, means in matrix.items()
    ]
    click.echo("Mean probability of the answer (exact, over all questions)\n")
    click.echo(table(rows, ("model", *words)))
    click.echo("\nPaired over questions, 95 % intervals\n")
    effects = [
        (
            f"{effect.label}: {effect.treated} against {effect.control}",
            f"{effect.estimate:.2f}",
            "none" if effect.low is None else f"[{effect.low:.2f}, {effect.high:.2f}]",
            effect.unit,
            "" if effect.significant else "not significant",
        )
        for effect in result.verdict.effects
    ]
    click.echo(table(effects, ("effect", "estimate", "interval", "unit", "")))
    click.echo()
    for finding in result.verdict.findings:
        mark = {True: "met", False: "NOT MET", None: "-"}[finding.met]
        click.echo(f"{mark:>8}  {finding.figure:>12}  {finding.text}")
    click.echo(f"\nreport: {result.report}")
