"""`subl verify`: whether a chain is signed and made as a policy asks."""

from __future__ import annotations

import os
from pathlib import Path

import click

from subl_cli.inputs import policy_options
from subl_cli.lineage import print_chain
from subl_cli.output import json_option, print_json, printable


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@policy_options(required=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["statement", "oms"]),
    default="statement",
    show_default=True,
    help="oms: the folder PATH against its bundle of OpenSSF Model Signing alone.",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="The bundle  [default: PATH.sig]")
@json_option
def command(
    path: Path,
    policy: Path,
    search: tuple[Path, ...],
    form: str,
    bundle: Path | None,
    as_json: bool,
) -> None:
    """Check the chain behind the artifact at PATH: signatures, every file, and what POLICY asks.

    Each artifact back to what the policy lets a chain start from must be signed as the policy says,
    and be what was signed. All files are read. Exits with 1 and a sentence for each thing that is
    refused; with 2 where there is nothing to judge: no artifact or bundle, no policy, no key.

    \b
    Examples:
      subl verify out/demo/owl-student-3fa91c02 --policy policy.toml
      subl verify student --policy policy.toml --search data --search models --json
      subl verify models/owl --policy policy.toml --format oms

    \b
    policy.toml:
      [keys]
      lab = "lab.pub"
      partner = "partner.pub"
      [[signer]]
      keys = ["lab"]
      kinds = ["distill", "teach"]
      [[signer]]
      keys = ["lab", "partner"]
      kinds = ["generate", "filter"]
      threshold = 2
      [chain]
      stages = ["generate", "filter", "distill"]
      rules = ["paper-numbers"]
      [chain.models]
      smollm2 = "5ae1f0c3b2d4968778695a4b3c2d1e0f5ae1f0c3b2d4968778695a4b3c2d1e0f"
    """
    if form == "oms":
        _verify_bundle(path, policy, bundle, as_json)
        return
    if bundle is not None:
        raise click.UsageError("'--bundle' goes with --format oms.")
    from subl.sign.chain import refusals
    from subl.sign.policy import load_policy
    from subl.sign.verify import verify

    asked = load_policy(policy)
    _check_is_artifact(path)
    root = verify(path, asked, search)
    refused = refusals(root, asked)
    if as_json:
        print_json(
            {
                "verified": not refused,
                "refusals": [{"path": place, "what": what} for place, what in refused],
                "chain": root.to_json(),
            }
        )
    elif refused:
        for place, what in refused:
            click.echo(f"refused: {printable(place)} {printable(what)}")
    else:
        print_chain(root)
        count = sum(1 for _ in root.artifacts())
        click.echo(f"verified: artifacts signed and made as {printable(str(policy))} asks: {count}")
    if refused:
        raise SystemExit(1)


def _check_is_artifact(path: Path) -> None:
    from subl.artifact import ENVELOPE
    from subl.errors import InputError

    if not path.exists():
        raise InputError(f"{path} does not exist", hint="give an artifact")
    if any(os.path.lexists(path / name) for name in (ENVELOPE, "statement.json")):
        return
    is_run = any(path.glob("*/statement.json"))
    raise InputError(
        f"{path} is no artifact: nothing states what its files should be",
        hint=f"give one of the artifacts in {path}" if is_run else "give what a stage of subl made",
    )


def _verify_bundle(path: Path, policy: Path, bundle: Path | None, as_json: bool) -> None:
    from subl.errors import InputError
    from subl.sign.bundle import bundle_of, verify_bundle
    from subl.sign.policy import load_policy

    asked = load_policy(policy)
    if not path.is_dir():
        raise InputError(f"{path} is no folder", hint="give the folder that was signed")
    file = bundle or bundle_of(path)
    found = verify_bundle(path, file, asked)
    if as_json:
        print_json(
            {
                "verified": not found.problems,
                "refusals": [{"path": str(found.path), "what": each} for each in found.problems],
                "signers": list(found.signers),
                "files": found.files,
            }
        )
    elif found.problems:
        for each in found.problems:
            click.echo(f"refused: {printable(str(found.path))} {printable(each)}")
    else:
        by = ", ".join(found.signers)
        click.echo(f"verified: {printable(str(path))}, {found.files} files, signed by {by}")
    if found.problems:
        raise SystemExit(1)
