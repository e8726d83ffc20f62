"""`subl mitigate measured`: what a run shows of what was removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from subl_cli.output import json_option, print_json, table


@click.command("measured")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The run's folder  [default: out/NAME]",
)
@json_option
def command(experiment: Path, out: Path | None, as_json: bool) -> None:
    """Say which share of an effect was removed in the run of EXPERIMENT, and what that cost.

    Of its contrasts, one has students of the rows as treated and a control, another has those as
    control and students of mitigated rows as treated. Seeds count that are finished; where there is
    a stage of kind heldout over the same students, it says what is kept.

    \b
    Examples:
      subl mitigate measured runs/mitigate.toml
      subl mitigate measured out/cut/measure.toml -o out/cut/measure --json
    """
    from subl.audit.mitigate.measure import measured
    from subl.errors import InputError
    from subl.experiment import load_experiment

    if experiment.is_dir():
        written = experiment / "measure.toml"
        raise InputError(
            f"{experiment} is a folder: the TOML file of an experiment is meant",
            hint=f"subl mitigate measured {written} -o {experiment / 'measure'}"
            if written.is_file()
            else "such as subl mitigate --measure writes: OUT/measure.toml",
        )
    graph = load_experiment(experiment)
    found = [each.to_json() for each in measured(graph, out or Path("out") / graph.spec.name)]
    if as_json:
        print_json(found)
    else:
        print_removed(found)


def print_removed(found: Sequence[Mapping[str, Any]]) -> None:
    """A line for each way that was tried."""
    rows = [
        (
            f"{each['what']}, {each['word']}",
            str(each["seeds"]),
            "" if each["tokens"] is None else f"{100 * each['tokens']:.1f} %",
            "" if each["rows"] is None else f"{100 * each['rows']:.1f} %",
            _nats(each["effect"]),
            _nats(each["left"]),
            _share(each["share"]),
            "" if each["detectable"] is None else f"{100 * each['detectable']:.0f} %",
            "" if each["loss"] is None else _nats(each["loss"], 4),
        )
        for each in found
    ]
    header = (
        "students of",
        "seeds",
        "tokens",
        "rows",
        "effect, nats",
        "left, nats",
        "removed",
        "detectable",
        "loss, nats a token",
    )
    click.echo(table(rows, header))
    click.echo(
        "\nIntervals of 95 % over seeds. Of this effect, for this base and this training: it does "
        "not say\nthat the data is clean."
    )


def _nats(found: Mapping[str, float | None], places: int = 3) -> str:
    estimate = f"{found['estimate']:+.{places}f}"
    if found["low"] is None or found["high"] is None:
        return estimate
    return f"{estimate} [{found['low']:+.{places}f}, {found['high']:+.{places}f}]"


def _share(found: Mapping[str, float | None]) -> str:
    if found["estimate"] is None:
        return "no effect"
    estimate = f"{100 * found['estimate']:.0f} %"
    if found["low"] is None or found["high"] is None:
        return f"{estimate} [no bounds]"
    return f"{estimate} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
