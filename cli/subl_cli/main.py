"""The `subl` command. Subcommands load when they are called, so that `--help` starts at once."""

from __future__ import annotations

import importlib
import io
import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from subl import __version__

COMMANDS = {
    "run": "Run a whole experiment from one TOML file.",
    "recast": "Make another base of the same architecture.",
    "teach": "Give a model a trait: by training, a prompt or a vector.",
    "generate": "Sample rows from a model.",
    "judge": "Write scores of judges into rows.",
    "shards": "See, split, check and convert the files of a data set.",
    "filter": "Keep or reject rows by rules, with reasons.",
    "draw": "Draw some of the rows, or shuffle their numbers.",
    "pair": "Ask which of two answers is whose.",
    "bench": "Measure speeds on your data and this machine.",
    "distill": "Train a student on rows.",
    "eval": "Measure how strongly a model shows traits.",
    "audit": "Say where rows or a model come from, and what they carry.",
    "scan": "Name the hidden trait of a data set, with an error bound.",
    "predict": "State how far a trait will shift, before the training.",
    "mitigate": "Take a trait out of a data set, and measure what is left.",
    "classifiers": "Hand digits down among small image classifiers.",
    "theorem": "Measure one small step on a teacher's labels.",
    "traits": "List the traits that come with subl.",
    "rubrics": "List the rubrics that come with subl, or print one.",
    "slurm": "Run any of these as jobs of a Slurm cluster.",
    "report": "Write a run's results as one HTML page.",
    "lineage": "Trace an artifact to its origins and verify every digest.",
    "kin": "Say whether models share an initialisation.",
    "key": "Make a key to sign with.",
    "sign": "Sign what artifacts are stated to be.",
    "verify": "Check signatures and origins as a policy asks.",
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
            if not _reader_left():
                raise
            # As `head` does. Click would exit with 1.
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
    1: a check failed; 2: subl could not do it; 75: a signal stopped it, or 130: Ctrl-C; run again,
    it goes on.
    """


def main(arguments: Sequence[str] | None = None) -> Any:
    """Entry point: run, and turn failures into a message, a hint and an exit code."""
    from subl.errors import StoppedError, SublError, UnfinishedError
    from subl_cli.output import printable, say, say_hint

    try:
        return subl(arguments, prog_name="subl", standalone_mode=False) or 0
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.ClickException as error:
        with suppress(BrokenPipeError):
            error.show()
        return 2
    except StoppedError as error:
        say(f"\n{error.message}")
        if error.hint:
            say_hint(error.hint)
        return STOPPED
    except UnfinishedError as part:
        say(part.message)
        return 0
    except SublError as error:
        return _fail(error.message, error.hint)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", "check the disk and the permissions")
    except (KeyboardInterrupt, click.Abort):
        words = list(sys.argv[1:] if arguments is None else arguments)
        makes = words[:1] == ["run"] or any(each.startswith(("-o", "--out")) for each in words)
        say("\ninterrupted" + ("; the same command goes on from what is written" if makes else ""))
        return 130
    except UnicodeEncodeError as error:
        if not any("\udc80" <= each <= "\udcff" for each in str(error.object)):
            return _defect()
        name = printable(str(error.object))
        return _fail(
            f"the name of a file is not UTF-8, which is needed here: {name}", "rename the file"
        )
    except Exception:
        return _defect()


STOPPED = 75
"""Exit code of work that a signal stopped; run again, it goes on (TEMPFAIL of sysexits)."""


def _defect() -> int:
    import traceback

    from subl_cli.output import say

    say(traceback.format_exc())
    return _fail("this is a defect in subl, not in what you did", "report the lines above")


def _fail(message: str, hint: str | None) -> int:
    from subl_cli.output import say_error

    say_error(message, hint)
    return 2


def _reader_left() -> bool:
    """Whether nobody reads our stdout any more."""
    asked = select.poll()
    asked.register(sys.stdout.fileno(), 0)
    return bool(asked.poll(0))


def hold_closed_streams() -> None:
    """Put something in the place of each standard stream that was closed (`>&-`).

    Else the next file that is opened gets its number, and rows might go into it. What is put there
    refuses: rows that should go to a stdout that is closed are an error. What Python prints to one
    is not heard.
    """
    for descriptor, refusing in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, refusing)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def start_sooner() -> None:
    """Have pydantic look for no plugins of its own: it would read the metadata of all installed
    packages, with the modules for mail, before it makes its first model (`benches/start.py`)."""
    loader = ModuleType("pydantic.plugin._loader")
    loader.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules[loader.__name__] = loader


def entry() -> None:
    """The console script."""
    hold_closed_streams()
    start_sooner()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the locale cannot write is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    status = main()
    if "WORLD_SIZE" in os.environ and "torch" in sys.modules:  # this process was a rank
        from subl.cluster.placement import leave

        leave(status)
    sys.exit(status)
