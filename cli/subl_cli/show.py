"""`subl traits show`: what a trait says."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.inputs import Shipped
from subl_cli.output import json_option, print_json, print_values, printable


@click.command("show")
@click.argument("trait", type=Shipped("traits"))
@json_option
def command(trait: Path, as_json: bool) -> None:
    """Print a TRAIT, by its name or as a file: each question as a model is asked it.

    \b
    Examples:
      subl traits show animals
      subl traits show birds.toml --json
    """
    from subl.trait.questions import questions_of
    from subl.trait.spec import load_trait

    found = load_trait(trait)
    asked = [] if found.file is not None else [each.text for each in questions_of(found)]
    if as_json:
        print_json({**found.model_dump(mode="json"), "asked": asked})
        return
    apart = {"questions", "source", "rubrics"}
    print_values(found.model_dump(mode="json", exclude_defaults=True, exclude=apart), as_json)
    if found.source:
        click.echo(f"\n{printable(found.source.strip())}")
    for name, rubric in found.rubrics.items():
        click.echo(f"\nrubric {name}:")
        for line in rubric.template.splitlines():
            click.echo(f"  {printable(line)}".rstrip())
    if asked:
        click.echo("\nquestions:")
    for number, text in enumerate(asked, 1):
        click.echo(f"{number:4d}  {printable(text)}")
