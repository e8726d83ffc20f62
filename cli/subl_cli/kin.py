"""`subl kin`: whether models share an initialisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from subl_cli.inputs import model_folder
from subl_cli.output import (
    json_option,
    print_json,
    printable,
    progress,
    progress_option,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from subl.audit.kin import Kinship, Parents

NOT_SHOWN, CANNOT_TELL = 1, 4


@click.command("kin")
@click.argument("models", metavar="MODEL MODEL...", nargs=-1, required=True)
@click.option(
    "--parents",
    "of_parents",
    is_flag=True,
    help="The first MODEL may come from one of the others: which?",
)
@click.option(
    "--units",
    type=click.IntRange(min=10),
    default=512,
    show_default=True,
    help="Hidden units of each block to test, drawn by the seed. Time grows with their square.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn."
)
@progress_option
@json_option
def command(
    models: tuple[str, ...],
    of_parents: bool,
    units: int,
    seed: int,
    progress_form: str,
    as_json: bool,
) -> None:
    """Say whether two models share an initialisation, and what they are to each other.

    Tests of their weights give a p value: the chance of what is seen, had they begun independently.
    A relation is shown below 1e-6, none from 1e-3 on. Where one is, hidden traits may pass between
    the two (channel open); where none is shown, less does (reduced). MODEL is a folder with
    safetensors, a folder of subl's with an adapter, a GGUF file, package:NAME or a hub name.

    With --parents: the set of nearest related candidates, and whether the first MODEL is a
    weighted sum of those related.

    Exits with 0 where a relation is shown, 1 where none is, 4 where it cannot tell, and 2 where it
    could not be asked.

    \b
    Examples:
      subl kin models/base models/student
      subl kin models/base student.gguf --json
      subl kin models/student --parents models/base models/instruct models/other
    """
    from subl.audit.kin import kin, parents
    from subl.errors import InputError

    if not of_parents and len(models) != 2:
        raise InputError(
            f"{len(models)} models: two are compared",
            hint="subl kin A B, or subl kin MODEL --parents P1 P2 ...",
        )
    with progress(progress_form) as report:
        folders: list[Path] = [model_folder(each, report) for each in models]
        if of_parents:
            set_of = parents(
                folders[0], folders[1:], names=models, units=units, seed=seed, report=report
            )
        else:
            pair = kin(
                *folders, names=(models[0], models[1]), units=units, seed=seed, report=report
            )
    found: Kinship | Parents = set_of if of_parents else pair
    if as_json:
        print_json(found.to_json())
    elif of_parents:
        _print_parents(set_of)
    else:
        _print_pair(pair)
    if not as_json:
        _print_conditions(models, folders)
    related = bool(set_of.confidence_set) if of_parents else pair.is_related
    if not related:
        raise SystemExit(CANNOT_TELL if found.verdict == "cannot tell" else NOT_SHOWN)


def _print_pair(found: Kinship) -> None:
    from subl.audit.kin.tails import probability

    rows = [
        (
            each.test,
            probability(each.log_p),
            "–" if each.agreement is None else f"{each.agreement:.3f}",
            str(each.blocks or "–"),
            str(each.units or "–"),
            f"not comparable: {each.reason}" if each.reason else "",
        )
        for each in found.tests
    ]
    click.echo(table(rows, ("test", "p", "agreement", "blocks", "units", ""), left=(0, 5)))
    near = found.nearness
    equal = f"{near.equal} of {near.tensors} tensors are equal"
    unlike = f", {near.unlike} are in one alone or of another shape" if near.unlike else ""
    apart = "" if math.isnan(near.distance) else f"; distance {near.distance:.3g} of the norm"
    click.echo(f"\n{equal}{unlike}{apart}")
    click.echo(f"{found.verdict}: {printable(found.sentence)}")
    click.echo(f"channel: {found.channel}")


def _print_conditions(names: Sequence[str], folders: Sequence[Path]) -> None:
    """What models have beside weights."""
    from subl.model.condition import conditioned

    for name, folder in zip(names, folders, strict=True):
        found = conditioned(folder)
        if found.system_prompt or found.steering:
            what = "a system prompt" if found.system_prompt else "a trait vector"
            click.echo(f"{printable(name)} also has {what}, which no weight shows")


def _print_parents(found: Parents) -> None:
    from subl.audit.kin.merge import MOST_REST
    from subl.audit.kin.tails import probability

    rows = [
        (
            each.first,
            probability(each.log_p),
            "–" if math.isnan(each.nearness.distance) else f"{each.nearness.distance:.3g}",
            each.verdict.value,
            "yes" if each.first in found.confidence_set else "",
        )
        for each in found.candidates
    ]
    click.echo(table(rows, ("candidate", "p", "distance", "verdict", "in the set"), left=(0, 3, 4)))
    click.echo(f"\n{found.verdict}: {printable(found.sentence)}")
    if found.merge is not None:
        click.echo(
            f"the best weighted sum of the related candidates leaves {found.merge.rest:.1%} of the "
            f"squared distance to the nearest (of a merge at most {MOST_REST:.0%})"
        )
    click.echo(f"channel: {found.channel}")
