"""`subl completion`: shell completion."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    Examples:
      eval "$(subl completion bash)"          # in ~/.bashrc
      subl completion fish > ~/.config/fish/completions/subl.fish
    """
    from click.shell_completion import get_completion_class

    from subl_cli.main import subl

    completion = get_completion_class(shell)
    assert completion is not None, shell
    click.echo(completion(subl, {}, "subl", "_SUBL_COMPLETE").source())
