"""`subl eval --plan`: what an evaluation will be able to show, before it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from subl_cli.output import Command, about, print_json, printable, table

if TYPE_CHECKING:
    from pathlib import Path

    from subl.evaluate import EvalSpec, Scores
    from subl.evaluate.plan import Line, Plan
    from subl.trait.questions import Question

ASSUMED = {"mean": 0.12, "sd": 0.15, "correlation": 0.5, "difference": 0.05}


class _Assumption(click.ParamType[tuple[str, float]]):
    name = "KEY=NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        key, _, number = str(value).partition("=")
        if key not in ASSUMED:
            self.fail(f"{value!r}: expected one of {', '.join(ASSUMED)}, as in sd=0.15", param, ctx)
        try:
            return key, float(number)
        except ValueError:
            self.fail(f"{value!r}: expected a number, as in {key}={ASSUMED[key]}", param, ctx)


def plan_options(command: Command) -> Command:
    """`--plan`, and what it is to assume."""
    known = ", ".join(f"{key} ({value})" for key, value in ASSUMED.items())
    command = click.option(
        "--assume",
        multiple=True,
        type=_Assumption(),
        help=f"With --plan: {known}. The mean probability of a word, its standard deviation and "
        "the correlation of two models over questions, where no --against says them; the "
        "difference of probabilities that is to be found. Repeatable.",
    )(command)
    return click.option(
        "--plan",
        is_flag=True,
        help="Evaluate nothing: show what can be found with so many questions and samples, and "
        "what it costs. Spreads are those of --against, once or twice, or assumed.",
    )(command)


def print_plan(
    spec: EvalSpec,
    questions: Sequence[Question],
    earlier: Mapping[Path, Scores],
    assumed: Mapping[str, float],
    model: str | None,
    as_json: bool,
) -> None:
    """One plan a word of the earlier evaluations, or one of what is assumed."""
    from dataclasses import asdict

    from subl.evaluate.plan import Cost, plan, spreads, ways

    told = {**ASSUMED, **assumed}
    wanted, count = told.pop("difference"), len({each.base for each in questions})
    cost, made = Cost.of(spec, [each.text for each in questions]), ways(spec)
    orders = len(questions) / count
    plans = {
        name: plan(spread, count, wanted, cost, made, orders)
        for name, spread in spreads(spec.measured.words, earlier, **told).items()
    }
    seconds = _seconds(list(made.values()), model)
    if as_json:
        print_json(
            {
                "questions": count,
                "orders": orders,
                "difference": wanted,
                "measured_from": list(map(str, earlier)),
                "plans": {name: asdict(each) for name, each in plans.items()},
                "seconds": seconds,
            }
        )
        return
    asked = "" if orders == 1 else f" in {orders:g} orders each"
    click.echo(
        f"{count} questions{asked}; a difference of {wanted:g} between two models is to be "
        "found\nin 80 % of cases, paired by question, at p < 0.05.\n"
    )
    click.echo(table(list(map(_spread, plans.items())), _SPREAD))
    name, widest = max(plans.items(), key=lambda item: item[1].lines[-1].detectable or 0.0)
    click.echo(f"\nSamples of a question ({printable(name)})\n{_lines(widest, seconds)}")
    if seconds is not None:
        click.echo("Times are with the start; proving how the model decodes comes on top.")
    if widest.enough is not None:
        click.echo(
            f"\n{widest.enough} samples of a question give about the interval of exact scoring; "
            "beyond, only more\nquestions narrow it."
        )


_SPREAD = ("answer", "mean", "sd", "correlation", "95 %: ±", "found from", "questions needed")


def _spread(item: tuple[str, Plan]) -> tuple[str, ...]:
    """A word's spread, and its best line, which is the last."""
    name, plan = item
    spread = plan.spread
    return (
        name,
        f"{spread.mean:.2g}",
        f"{spread.between**0.5:.2g}",
        f"{spread.correlation:.2f}",
        *_found(plan.lines[-1]),
    )


def _lines(plan: Plan, seconds: Sequence[float] | None) -> str:
    rows = [
        (
            "exact" if line.samples is None else str(line.samples),
            *_found(line),
            f"{line.tokens:,.0f}",
            *(() if seconds is None else (about(seconds[place]),)),
        )
        for place, line in enumerate(plan.lines)
    ]
    header = ("samples", "95 %: ±", "found from", "questions needed", "tokens")
    return table(rows, header if seconds is None else (*header, "time"))


def _found(line: Line) -> tuple[str, str, str]:
    needed = "none" if line.questions is None else f"{line.questions:,}"
    return _figure(line.half_width), _figure(line.detectable), needed


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def _seconds(ways: Sequence[EvalSpec], model: str | None) -> list[float] | None:
    """What each way takes on this machine, with its start; None without a model of known size."""
    from subl.cost import START, Rows, Work
    from subl.evaluate.stage import EVAL
    from subl.experiment.estimate import measure, model_size

    size = None if model is None else model_size(model)
    if size is None:
        return None
    pace = measure()
    start = Work(bytes=START)
    return [pace.seconds(start + EVAL.cost(way, size, Rows())) for way in ways]
