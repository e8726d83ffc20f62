"""`subl key`: keys to sign with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from subl_cli.output import json_option, print_json, printable


@click.group("key")
def command() -> None:
    """Keys to sign with, in files."""


@command.command("new")
@click.argument("name", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ed25519", "p256"]),
    default="ed25519",
    show_default=True,
    help="p256 signs statements and OpenSSF bundles, ed25519 statements.",
)
@json_option
def new_command(name: Path, kind: Any, as_json: bool) -> None:
    """Make a key pair: NAME, which stays with you, and NAME.pub, which others get.

    NAME is a private key without a password, PKCS8 in PEM; nobody but you may read it. Neither file
    is ever written over. The id that is printed is the SHA-256 of NAME.pub: tell it to those who
    get the file, in another way than the file itself.

    \b
    Examples:
      subl key new lab
      subl key new ~/.config/subl/release --type p256
    """
    from subl.sign.keys import new_key

    identity = new_key(name, kind)
    public = f"{name}.pub"
    if as_json:
        print_json({"private": str(name), "public": public, "type": kind, "id": identity})
    else:
        click.echo(f"{printable(public)}  {kind}  {identity}")
