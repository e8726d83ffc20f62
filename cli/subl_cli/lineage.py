"""`subl lineage`: where an artifact comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.kin import CANNOT_TELL
from subl_cli.output import (
    json_option,
    print_json,
    printable,
    progress,
    progress_option,
    say,
    say_hint,
)

if TYPE_CHECKING:
    from subl.artifact import LineageNode
    from subl.audit.kin import Claim


@click.command("lineage")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "cyclonedx", "croissant", "card"]),
    default="text",
    show_default=True,
    help="Of a chain that is verified: cyclonedx, a bill of materials, CycloneDX 1.7 in JSON; "
    "croissant, of a data set its card for machines, Croissant 1.1 in JSON-LD; card, of a model "
    "its card for a hub, in Markdown.",
)
@click.option(
    "--license",
    "licence",
    help="For croissant a URL, for card a hub's identifier, which no record has.",
)
@click.option("--creator", help="For croissant: a name, which no record has.")
@click.option(
    "--kin",
    "with_kin",
    is_flag=True,
    help="Compare the weights of each model with those that it is said to begin from.",
)
@progress_option
@json_option
def command(
    path: Path,
    form: str,
    licence: str | None,
    creator: str | None,
    with_kin: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Print the chain behind an artifact back to its origins, checking every file's digest.

    Exits with 1 where a file is missing, was added, is hidden, so that no digest covers it, or is
    not what the records say. Then there is no card and no bill: the chain goes to stderr.

    With --kin, each model is declared and consistent; or declared, but its weights contradict it
    (exit code 1); or that cannot be told (exit code 4). It takes a minute for each pair of models
    of 135M parameters, as subl kin does.

    \b
    Examples:
      subl lineage out/demo/owl-student-3fa91c02
      subl lineage out/demo                              # all artifacts of a run
      subl lineage out/demo/owl-student-3fa91c02 --json
      subl lineage out/demo/owl-student-3fa91c02 --kin
      subl lineage out/demo/owl-student-3fa91c02 --format cyclonedx > owl-student.cdx.json
      subl lineage out/demo/owl-student-3fa91c02 --format card --kin > README.md
      subl lineage out/demo/owl-numbers-ab4fff0f --format croissant > out/demo/owl-numbers.json
    """
    from subl.artifact import lineage

    if creator and form != "croissant":
        raise click.UsageError("'--creator' goes with --format croissant.")
    if licence and form not in ("croissant", "card"):
        raise click.UsageError("'--license' goes with --format croissant, and with card.")
    if form == "croissant" and licence and not licence.startswith(("http://", "https://")):
        raise click.UsageError(
            f"'--license': {licence!r} is no URL, such as https://spdx.org/licenses/MIT."
        )
    if as_json and form != "text":
        raise click.UsageError("'--json' goes with --format text.")
    if with_kin and form not in ("text", "card"):
        raise click.UsageError("'--kin' goes with --format text, with card, and with --json.")
    node = lineage(path)
    claims = _measured(node, progress_form) if with_kin else ()
    if form == "cyclonedx" and node.verified():
        from subl.bill import cyclonedx

        click.echo(cyclonedx(node))
    elif form == "croissant" and node.verified():
        from subl.croissant import croissant

        click.echo(croissant(node, licence, creator))
    elif form == "card" and node.verified():
        from subl.card import model_card

        click.echo(model_card(node, claims if with_kin else None, licence), nl=False)
    elif as_json:
        measured = {"kin": [each.to_json() for each in claims]} if with_kin else {}
        print_json({"verified": node.verified(), **measured, "lineage": node.to_json()})
    else:
        is_text = form == "text"  # else it is for a file, into which nothing goes that is none
        tell = click.echo if is_text else say
        print_chain(node, tell)
        for each in claims:
            tell(_said(each))
        if with_kin and not claims:
            tell("no model in this chain is said to begin from another")
        tell("every digest verified" if node.verified() else "NOT verified: see above")
        if any(each.kind == "missing" for each in node.nodes()):
            say_hint("subl verify --search FOLDER looks for inputs that were moved, by digest")
    findings = {each.finding.name for each in claims}
    if not node.verified() or "CONTRADICTED" in findings:
        raise SystemExit(1)
    if "CANNOT_TELL" in findings:
        raise SystemExit(CANNOT_TELL)


def _measured(node: LineageNode, progress_form: str) -> tuple[Claim, ...]:
    from subl.audit.kin import declared

    with progress(progress_form) as report:
        return declared(node, report=report)


def _said(claim: Claim) -> str:
    """A claim on a line."""
    from subl.audit.kin.tails import probability

    said = "drawn anew, unlike" if claim.is_drawn else "begun from"
    child, parent = printable(claim.child), printable(claim.parent)
    p = f", p = {probability(claim.kinship.log_p)}" if claim.kinship else ""
    return f"{child} {said} {parent}: {claim.finding}: {printable(claim.reason)}{p}"


def print_chain(
    node: LineageNode,
    tell: Callable[[str], None] = click.echo,
    indent: str = "",
    seen: set[int] | None = None,
) -> None:
    """A line for each thing in a chain, and below it what is wrong with it.
    What is behind one folder stands where that is first named; another one of the same digest has
    its own inputs."""
    seen = set() if seen is None else seen
    again = id(node.inputs) in seen and bool(node.inputs)
    seen.add(id(node.inputs))
    problems = "".join(f"\n{indent}  !! {printable(problem)}" for problem in node.problems)
    state = "" if node.problems else ("  (as above)" if again else "  ok")
    kind = node.kind if node.format_version is None else f"{node.kind} v{node.format_version}"
    remark = f"  {node.remark()}" if node.remark() else ""
    name, path = printable(node.name), printable(node.path)
    tell(f"{indent}{name}  {kind}  sha256:{node.digest[:12]}  {path}{remark}{state}{problems}")
    if not again:
        for each in node.inputs:
            print_chain(each, tell, indent + "  ", seen)
