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
@json_option
def command(artifacts: tuple[Path, ...], key: Path, as_json: bool) -> None:
    """Sign the statement of each ARTIFACT, once every file is found to be what it says.

    Of the folder of a run, all artifacts in it. The signature is beside the statement, in
    statement.dsse.json (DSSE). Another key adds its own; the same one changes nothing.

    \b
    Examples:
      subl sign out/demo/owl-student-3fa91c02 --key lab
      subl sign out/demo --key lab                       # all artifacts of a run
    """
    from subl.artifact import artifacts_in
    from subl.sign.envelope import sign_artifact

    each = [
        artifact
        for path in artifacts
        for artifact in ([path] if (path / "statement.json").exists() else artifacts_in(path))
    ]
    signed = []
    for artifact in each:
        identity, new = sign_artifact(artifact, key)
        signed.append({"path": str(artifact), "key": identity, "new": new})
        if not as_json:
            state = "signed" if new else "already signed"
            click.echo(f"{printable(str(artifact))}  {state} by {identity[:12]}")
    if as_json:
        print_json(signed)
