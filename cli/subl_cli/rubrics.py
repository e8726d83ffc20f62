"""`subl rubrics`: the rubrics that ship, and one as a file to copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.inputs import Shipped
from subl_cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from subl.trait.rubric import AnyAnswer


@click.command("rubrics")
@click.argument("rubric", required=False, type=Shipped("rubrics"))
@json_option
def command(rubric: Path | None, as_json: bool) -> None:
    """List the rubrics that come with subl; or print a RUBRIC, by its name or as a file, to copy.

    A judge of `subl judge` takes one by its name, and one of your own as a file.

    \b
    Examples:
      subl rubrics
      subl rubrics cot-alignment > mine.toml
      subl rubrics mine.toml --json

    \b
    polite.toml:
      template = "How polite is this, from 0 to 100? {completion}"
      [answer]
      kind = "number"
    """
    from subl.shipped import file_of, shipped
    from subl.trait.rubric import load_rubric

    if rubric is not None:
        found = load_rubric(rubric)
        if as_json:
            print_json(found.model_dump(mode="json"))
            return
        for line in file_of(rubric, "rubrics").read_text(encoding="utf-8-sig").splitlines():
            click.echo(printable(line))
        return
    known = {name: load_rubric(name) for name in shipped("rubrics")}
    if as_json:
        print_json([{"name": name, **each.model_dump(mode="json")} for name, each in known.items()])
        return
    rows = [
        (name, _answer(each.answer), ", ".join(sorted(each.places))) for name, each in known.items()
    ]
    click.echo(table(rows, ("name", "answer", "values"), left=(0, 1, 2)))


def _answer(answer: AnyAnswer) -> str:
    """What is read of a judge's."""
    if answer.kind == "probability":
        return f"probability of {answer.answer}"
    words = answer.classes if answer.kind == "number" else ()
    return ", ".join([f"{answer.kind} from {answer.min} to {answer.max}", *words])
