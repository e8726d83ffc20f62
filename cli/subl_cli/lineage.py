"""`subl lineage`: where an artifact comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.output import json_option, print_json, printable

if TYPE_CHECKING:
    from subl.artifact import LineageNode


@click.command("lineage")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "cyclonedx", "croissant"]),
    default="text",
    show_default=True,
    help="Of a chain that is verified, a bill of materials, CycloneDX 1.7 in JSON; or of a data "
    "set its card for machines, Croissant 1.1 in JSON-LD.",
)
@click.option("--license", "licence", help="For croissant: a URL, which no record has.")
@click.option("--creator", help="For croissant: a name, which no record has.")
@json_option
def command(
    path: Path, form: str, licence: str | None, creator: str | None, as_json: bool
) -> None:
    """Print the chain behind an artifact back to its origins, checking every file's digest.

    Exits with 1 where a file is missing, was added, is hidden, so that no digest covers it, or is
    not what the records say.

    \b
    Examples:
      subl lineage out/demo/owl-student-3fa91c02
      subl lineage out/demo                              # all artifacts of a run
      subl lineage out/demo/owl-student-3fa91c02 --json
      subl lineage out/demo/owl-student-3fa91c02 --format cyclonedx > owl-student.cdx.json
      subl lineage out/demo/owl-numbers-ab4fff0f --format croissant > out/demo/owl-numbers.json
    """
    from subl.artifact import lineage

    if form != "croissant" and (licence or creator):
        raise click.UsageError("'--license' and '--creator' go with --format croissant.")

    node = lineage(path)
    if form == "cyclonedx" and node.verified():
        from subl.bill import cyclonedx

        click.echo(cyclonedx(node))
    elif form == "croissant" and node.verified():
        from subl.croissant import croissant

        click.echo(croissant(node, licence, creator))
    elif as_json:
        print_json({"verified": node.verified(), "lineage": node.to_json()})
    else:
        print_chain(node)
        click.echo("every digest verified" if node.verified() else "NOT verified: see above")
    if not node.verified():
        raise SystemExit(1)


def print_chain(node: LineageNode, indent: str = "", seen: set[str] | None = None) -> None:
    """A line for each thing in a chain, and below it what is wrong with it."""
    seen = set() if seen is None else seen
    again = node.digest in seen and bool(node.inputs)
    seen.add(node.digest)
    problems = "".join(f"\n{indent}  !! {printable(problem)}" for problem in node.problems)
    state = "" if node.problems else ("  (as above)" if again else "  ok")
    kind = node.kind if node.format_version is None else f"{node.kind} v{node.format_version}"
    remark = f"  {node.remark()}" if node.remark() else ""
    name, path = printable(node.name), printable(node.path)
    click.echo(
        f"{indent}{name}  {kind}  sha256:{node.digest[:12]}  {path}{remark}{state}{problems}"
    )
    if not again:
        for each in node.inputs:
            print_chain(each, indent + "  ", seen)
