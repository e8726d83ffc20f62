"""`subl run`: a whole experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from subl_cli.figures import figures_text
from subl_cli.inputs import verify_option
from subl_cli.output import (
    about,
    dry_run_option,
    duration,
    json_option,
    print_json,
    printable,
    progress,
    progress_option,
    say,
    say_error,
    say_hint,
    table,
)

if TYPE_CHECKING:
    from subl.evaluate import Comparison
    from subl.experiment import Graph, Machine, NodeState, RunResult
    from subl.experiment.outcome import Outcome


_LONG_SECONDS = 5 * 24 * 3600
"""Beyond which nobody waits for this machine."""


@click.command("run")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the run's artifacts  [default: out/NAME]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NODE",
    help="Make this node, or all of this stage, and what it needs; conclude nothing. Repeatable.",
)
@click.option(
    "--keep-going", is_flag=True, help="Where a node fails, go on with those that do not need it."
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Nodes at a time, each in a process with its share of the cores and GPUs.",
)
@click.option(
    "--on",
    metavar="MACHINE",
    help="With --dry-run: what it takes on another machine, such as h100 or 8xh100, by published "
    "figures; which models that are not here yet, too, are known.",
)
@verify_option
@dry_run_option
@progress_option
@json_option
def command(
    experiment: Path,
    out: Path | None,
    only: tuple[str, ...],
    keep_going: bool,
    jobs: int,
    on: str | None,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Run EXPERIMENT (a TOML file): its stages over its axes, then its contrasts and a report.

    Each stage is a node for each point of its axes. What is already done is skipped, so the same
    command continues an interrupted run; a second one beside it, also on another machine, takes
    other nodes. Exits with 1 where the run finishes and does not show what its contrasts expect.

    How long it will take on this machine is measured in about a second, said before the first node,
    and corrected by every node that is done.

    \b
    Examples:
      subl run runs/demo.toml
      subl run runs/demo.toml --dry-run
      subl run runs/paper/qwen-animals.toml --dry-run --on 8xh100
      subl run runs/demo.toml --only owl-student --jobs 2
      subl run my.toml -o out/my-run --keep-going --json
    """
    from subl.experiment import load_experiment, machine, plan, run

    if on is not None and not dry_run:
        raise click.UsageError("--on goes with --dry-run")
    graph = load_experiment(experiment)
    out = out or Path("out") / graph.spec.name
    if dry_run:
        where = None if on is None else machine(on)
        states = plan(graph, out, only, where)
        if as_json:
            _print_json_plan(graph, states, where)
        else:
            _print_plan(graph, states, where)
        return
    with progress(progress_form) as report:
        result = run(
            graph,
            out,
            only=only,
            keep_going=keep_going,
            jobs=jobs,
            report=report,
            on_node=_say if progress_form == "auto" else _say_nothing,
        )
    if as_json:
        _print_json(result)
    elif result.outcome is not None:
        _print(result.outcome)
    if result.failures:
        for node, error in result.failures:
            say_error(f"{node.name}: {error.message}", error.hint)
        raise SystemExit(2)
    if not result.passed:
        raise SystemExit(1)


def _say(state: NodeState) -> None:
    match state.state:
        case "done":
            came = "already done"
        case "failed":
            came = f"FAILED: {state.reason}"
        case _:
            came = f"{state.seconds or 0:.1f} s"
    say(printable(f"  {state.node.name} ({state.node.how.kind}): {came}"))


def _say_nothing(state: NodeState) -> None:
    pass


def _counts(graph: Graph, states: Sequence[NodeState]) -> list[dict[str, Any]]:
    """Of each stage, in the order of the file: its kind, its axes, how many nodes it makes, and how
    many of its artifacts another stage makes, too."""
    nodes = Counter(state.node.stage for state in states)
    done = Counter(state.node.stage for state in states if state.state == "done")
    shared = {
        name: sum(node.stage != name for node in graph.of_stage(name)) for name in graph.spec.stages
    }
    return [
        {
            "stage": name,
            "kind": table.kind,
            "axes": [
                axis
                for axis in graph.spec.axes
                if any(axis in graph.axes(name, of) for of in graph.variants(name))
            ],
            "nodes": nodes[name],
            "shared": shared[name],
            "done": done[name],
        }
        for name, table in graph.spec.stages.items()
    ]


def _print_json_plan(graph: Graph, states: Sequence[NodeState], where: Machine | None) -> None:
    from dataclasses import asdict

    from subl.experiment import outlook

    found: dict[str, Any]
    if where is not None:
        found = {"on": {"machine": where.name, **asdict(outlook(states, where))}}
    else:
        left = [state.seconds for state in states if state.state == "todo"]
        known = [seconds for seconds in left if seconds is not None]
        found = {"seconds": round(sum(known), 1) if len(known) == len(left) else None}
    print_json({"stages": _counts(graph, states), "nodes": list(map(_json, states)), **found})


def _print_plan(graph: Graph, states: Sequence[NodeState], where: Machine | None) -> None:
    stages = [
        (
            each["stage"],
            each["kind"],
            " × ".join(each["axes"]),
            str(each["nodes"]),
            str(each["shared"] or ""),
            str(each["done"]),
        )
        for each in _counts(graph, states)
    ]
    click.echo(table(stages, ("stage", "kind", "axes", "nodes", "shared", "done")))
    memory = () if where is None else ("memory",)
    rows = [
        (
            state.node.name,
            state.state,
            _time(state),
            *(_memory(state) for _ in memory),
            state.reason.split("\n")[0],
        )
        for state in states
    ]
    header = ("node", "state", "time", *memory, "why")
    click.echo("\n" + table(rows, header, left=(0, len(header) - 1)))
    for state in states:
        if "\n" in state.reason:
            lines = f"{state.node.name}: {state.reason}".split("\n")
            click.echo("\n" + "\n".join(map(printable, lines)))
    if where is not None:
        _print_outlook(states, where)
        return
    left = [state.seconds for state in states if state.state == "todo"]
    known = [seconds for seconds in left if seconds is not None]
    if left and len(known) == len(left):
        click.echo(f"\nwhat is to do takes {about(sum(known))} on this machine")
        if sum(known) > _LONG_SECONDS:
            say_hint("--on h100 or --on 8xh100 says what it takes there")


def _print_outlook(states: Sequence[NodeState], where: Machine) -> None:
    from subl.experiment import outlook, roomier

    found = outlook(states, where)
    if found.too_large:
        large = {*found.too_large}
        stages = dict.fromkeys(each.node.stage for each in states if each.node.name in large)
        click.echo(
            f"\ntoo large for {where.name}: {printable(', '.join(stages))} ({len(large):,} nodes); "
            f"{found.memory / 1e9:.0f} GB of a GPU's {where.memory / 1e9:.0f}"
        )
        if (larger := roomier(states, where)) is not None:
            say_hint(f"--on {larger} has room")
        return
    if found.seconds is not None and found.gpu_seconds is not None:
        hours = found.gpu_seconds / 3600
        click.echo(
            f"\nwhat is to do takes {about(found.seconds)} on {where.name} "
            f"({hours:,.1f} GPU-hours), and {found.memory / 1e9:.0f} GB of a GPU's "
            f"{where.memory / 1e9:.0f}"
        )
    else:
        click.echo("\nof a model nothing is known before it is here: nobody can tell how long")


def _memory(state: NodeState) -> str:
    if state.room is None or not state.room.gpus:
        return ""
    each = f"{state.room.bytes / 1e9:.0f} GB"
    return each if state.room.gpus == 1 else f"{state.room.gpus} x {each}"


def _time(state: NodeState) -> str:
    if state.seconds is None:
        return ""
    return duration(state.seconds) if state.state == "done" else about(state.seconds)


def _json(state: NodeState) -> dict[str, Any]:
    return {
        "node": state.node.name,
        "stage": state.node.stage,
        "kind": state.node.how.kind,
        "point": dict(state.node.point),
        "inputs": [source.name for source in state.node.sources],
        "state": state.state,
        "why": state.reason,
        "path": None if state.path is None else str(state.path),
        "seconds": None if state.seconds is None else round(state.seconds, 1),
        **({} if state.room is None else {"memory": state.room.bytes, "gpus": state.room.gpus}),
    }


def _print_json(result: RunResult) -> None:
    outcome = result.outcome
    print_json(
        {
            "path": str(result.path),
            "report": None if outcome is None else str(outcome.page),
            "passed": None if outcome is None else result.passed,
            "nodes": list(map(_json, result.states)),
        }
    )


def _print(outcome: Outcome) -> None:
    for each in outcome.evaluations:
        rows = [
            (arm.model, *(f"{arm.means[word]['estimate']:.1e}" for word in each.words))
            for arm in each.arms
        ]
        click.echo(f"{each.name}: mean probability of the answer (exact, over all questions)\n")
        click.echo(table(rows, ("model", *each.words)))
        click.echo()
    compared = [effect for effect in outcome.effects if effect.comparison.control is not None]
    if compared:
        click.echo("Paired, 95 % intervals; significance by Holm within a contrast\n")
        effects = [
            (
                f"{came.label}: {came.treated} against {came.control}",
                f"{came.estimate:.2f}",
                "none" if came.low is None else f"[{came.low:.2f}, {came.high:.2f}]",
                came.unit,
                _over(came),
                "" if came.significant else "not significant",
            )
            for came in (effect.comparison for effect in compared)
        ]
        click.echo(table(effects, ("effect", "estimate", "interval", "unit", "over", "")))
        click.echo()
    for name, figures in outcome.figures.items():
        click.echo(f"{name}\n\n{figures_text(figures)}\n")
    for finding in outcome.findings:
        mark = {True: "met", False: "NOT MET", None: "-"}[finding.met]
        click.echo(f"{mark:>8}  {finding.figure:>12}  {printable(finding.text)}")
    click.echo(f"\nreport: {printable(str(outcome.page))}")


def _over(came: Comparison) -> str:
    if came.repetitions > 1:
        return f"{came.repetitions} repetitions"
    return f"{came.questions} questions" + (f", {came.left_out} left out" if came.left_out else "")
