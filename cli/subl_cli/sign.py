"""`subl sign`: put one's name to what an artifact's statement says."""

from __future__ import annotations

from pathlib import Path

import click

from subl_cli.output import json_option, print_json, printable


@click.command("sign")
@click.argument(
    "artifacts", nargs=-1, required=True, metavar="ARTIFACT...", type=click.Path(path_type=Path)
)
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Private key, as subl key new makes one.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["statement", "oms"]),
    default="statement",
    show_default=True,
    help="oms: a bundle of OpenSSF Model Signing v1.0 over every file, of any folder.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Bundle to write  [default: ARTIFACT.sig, beside the folder]",
)
@json_option
def command(
    artifacts: tuple[Path, ...], key: Path, form: str, out: Path | None, as_json: bool
) -> None:
    """Sign the statement of each ARTIFACT, once every file is found to be what it says.

    Of the folder of a run, all artifacts in it. The signature is beside the statement, in
    statement.dsse.json (DSSE). Another key adds its own; the same one changes nothing.

    A bundle is for a model or a data set that others get, who need not know subl: any folder, with
    a key of type p256.

    \b
    Examples:
      subl sign out/demo/owl-student-3fa91c02 --key lab
      subl sign out/demo --key lab                       # all artifacts of a run
      subl sign models/owl --key release --format oms    # writes models/owl.sig
    """
    from subl.artifact import artifacts_in
    from subl.sign.bundle import bundle_of, sign_bundle
    from subl.sign.envelope import sign_artifact

    if out is not None and (form != "oms" or len(artifacts) > 1):
        raise click.UsageError("'-o' is where the bundle of one folder goes: with --format oms.")
    signed = []
    for path in artifacts:
        whole = form == "oms" or (path / "statement.json").exists()
        for artifact in [path] if whole else artifacts_in(path):
            if form == "oms":
                file = out or bundle_of(artifact)
                identity, new = sign_bundle(artifact, key, file)
            else:
                file, (identity, new) = artifact, sign_artifact(artifact, key)
            signed.append({"path": str(file), "key": identity, "new": new})
            if not as_json:
                state = "signed" if new else "already signed"
                click.echo(f"{printable(str(file))}  {state} by {identity[:12]}")
    if as_json:
        print_json(signed)
