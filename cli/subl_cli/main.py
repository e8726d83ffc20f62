"""The `subl` command. Subcommands load when they are called, so that `--help` starts at once."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from subl import __version__

COMMANDS = {
    "run": "Run a whole experiment from one TOML file.",
    "teach": "Give a model a trait by fine-tuning it.",
    "generate": "Sample rows from a model.",
    "filter": "Keep or reject rows by rules, with reasons.",
    "bench": "Measure speeds on your data and this machine.",
    "distill": "Train a student on rows.",
    "eval": "Measure how strongly a model shows traits.",
    "report": "Write a run's results as one HTML page.",
    "lineage": "Trace an artifact to its origins and verify every digest.",
    "model": "Turn a GGUF file or a hub name into a model folder.",
    "config": "Show resolved configurations and their schemas.",
    "completion": "Print a script that completes subl's commands in a shell.",
}


class LazyGroup(click.Group):
    """Knows its commands' names and summaries; imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"subl_cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output left, as `head` does. Click would exit with 1.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS)
            meant = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="subl %(version)s")
def subl() -> None:
    """Filter, distil, evaluate and audit what language models hand down through data.

    \b
    Start here:
      subl run runs/demo.toml          the whole chain on a small model
      subl filter rules.toml data/ -o out/filtered
      subl COMMAND --help              examples for each command

    Results go to stdout (--json for machines), everything else to stderr. Exit code 0: done;
    1: a check failed; 2: subl could not do it; 75: stopped by a signal, goes on when run again.
    """


def main(arguments: Sequence[str] | None = None) -> Any:
    """Entry point: run, and turn failures into a message, a hint and an exit code."""
    from subl.errors import StoppedError, SublError

    try:
        return subl(arguments, prog_name="subl", standalone_mode=False) or 0
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except StoppedError as error:
        click.echo(f"\n{error.message}", err=True)
        if error.hint:
            click.echo(f"{click.style('hint', fg='cyan', bold=True)}: {error.hint}", err=True)
        return STOPPED
    except SublError as error:
        return _fail(error.message, error.hint)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", "check the disk and the permissions")
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; a run that makes a folder goes on where it was", err=True)
        return 130
    except Exception:
        traceback.print_exc()
        return _fail("this is a defect in subl, not in what you did", "report the lines above")


STOPPED = 75
"""Exit code of work that a signal stopped; run again, it goes on (TEMPFAIL of sysexits)."""


def _fail(message: str, hint: str | None) -> int:
    from subl_cli.output import printable

    message = "\n".join(map(printable, message.split("\n")))  # ranks' logs and rows are in it
    click.echo(f"{click.style('error', fg='red', bold=True)}: {message}", err=True)
    if hint:
        click.echo(f"{click.style('hint', fg='cyan', bold=True)}: {hint}", err=True)
    return 2


def entry() -> None:
    """The console script."""
    status = main()
    if "WORLD_SIZE" in os.environ and "torch" in sys.modules:  # this process was a rank
        from subl.cluster.placement import leave

        leave(status)
    sys.exit(status)
