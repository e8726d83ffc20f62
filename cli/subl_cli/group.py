"""A command that has subcommands: what is none of their names is an argument of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem


class CommandWithSubcommands(click.Group):
    """Runs its own callback, unless the first argument is the name of a subcommand.

    It knows its subcommands' names and summaries; a subcommand's module `subl_cli.NAME`, or the one
    that `modules` names, is imported when it is called.
    """

    # As a plain command has them; a group stops at the first argument.
    allow_extra_args = False
    allow_interspersed_args = True

    def __init__(
        self,
        *args: Any,
        subcommands: Mapping[str, str],
        modules: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.no_args_is_help = False
        self._summaries = subcommands
        self._modules = modules or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries:
            return None
        module = self._modules.get(cmd_name, cmd_name)
        command: click.Command = importlib.import_module(f"subl_cli.{module}").command
        return command

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        # Click puts a parent's arguments into a subcommand's usage line; here they are no part of
        # it.
        return super().get_params(ctx) if ctx.command is self else []

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self._summaries:
            ctx.args = list(args)
            return ctx.args
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx.args:
            return click.Command.invoke(self, ctx)
        name, command, args = self.resolve_command(ctx, ctx.args)
        assert command is not None
        ctx.invoked_subcommand = name
        with command.make_context(name, args, parent=ctx) as inner:
            return command.invoke(inner)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return click.Command.collect_usage_pieces(self, ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        click.Command.format_options(self, ctx, formatter)
        with formatter.section("Subcommands (for a file of such a name, write ./NAME)"):
            formatter.write_dl(list(self._summaries.items()))


def complete_first(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Completes the first argument of a command with subcommands: with them, too."""
    assert isinstance(ctx.command, CommandWithSubcommands)
    names = [name for name in ctx.command.list_commands(ctx) if name.startswith(incomplete)]
    own = param.type.shell_complete(ctx, param, incomplete)
    return [*own, *map(CompletionItem, names)]
