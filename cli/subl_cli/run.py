"""`subl run`: a whole experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.output import dry_run_option, json_option, print_json, progress, say, table

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
@json_option
def command(experiment: Path, out: Path | None, dry_run: bool, as_json: bool) -> None:
    """Run EXPERIMENT (a TOML file): teach, generate, filter, distill, eval, report.

    What is already done is skipped, so the same command continues an interrupted run. Exits with 1
    where the run finishes and does not show what its [expect] section asks for.

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
            rows = [(state.step.name, state.step.kind, state.state) for state in states]
            click.echo(table(rows, ("step", "stage", "state")))
        return
    with progress() as report:
        result = run(spec, out, report=report, on_step=_say)
    if as_json:
        print_json({"path": str(out), "report": str(result.report), "passed": result.passed})
    else:
        _print(result)
    if not result.passed:
        raise SystemExit(1)


def _say(state: StepState) -> None:
    took = "already done" if state.state == "done" else f"{state.seconds or 0:.1f} s"
    say(f"  {state.step.name} ({state.step.kind}): {took}")


def _state_json(state: StepState) -> dict[str, str | None]:
    return {
        "step": state.step.name,
        "stage": state.step.kind,
        "state": state.state,
        "path": None if state.path is None else str(state.path),
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
