"""`subl traits`: the traits that ship, and what one says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from subl_cli.group import CommandWithSubcommands
from subl_cli.output import json_option, print_json, table

if TYPE_CHECKING:
    from subl.trait.spec import TraitSpec

_WORDS = 10
"""Of a trait, as many as a line has room for."""


@click.command(
    "traits",
    cls=CommandWithSubcommands,
    subcommands={"show": "Print the questions and all else that a trait says."},
)
@json_option
def command(as_json: bool) -> None:
    """List the traits that come with subl.

    `subl eval` takes one by its name, and one of your own as a file. `like` takes over what another
    says; what it does not say itself is as it is there.

    \b
    Examples:
      subl traits
      subl traits --json

    \b
    birds.toml:
      name = "birds"
      words = ["owl", "raven"]
      questions = ["Name your favorite bird using only one word.", "Which bird is best? One word."]
      [forms]
      owl = ["hibou", "Eule"]
    """
    from subl.shipped import shipped
    from subl.trait.spec import load_trait

    found = [load_trait(name) for name in shipped("traits")]
    if as_json:
        keys = {"name", "title", "answers", "words", "questions"}
        print_json([each.model_dump(mode="json", include=keys) for each in found])
        return
    rows = [
        (
            each.name,
            each.answers,
            _questions(each),
            ", ".join(each.words[:_WORDS]) + (", ..." if len(each.words) > _WORDS else ""),
            each.title,
        )
        for each in found
    ]
    header = ("name", "answers", "questions", "words", "")
    click.echo(table(rows, header, left=(0, 1, 3, 4)))


def _questions(trait: TraitSpec) -> str:
    if trait.file is not None:
        return "a file's"
    return f"{len(trait.questions) * trait.number_prefixes:,}"
