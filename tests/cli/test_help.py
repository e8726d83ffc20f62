"""Help starts at once, and what it shows works: its examples parse, its files load."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from subl import __version__
from subl.experiment.kinds import STAGES
from subl_cli.group import CommandWithSubcommands
from subl_cli.main import COMMANDS
from subl_cli.main import subl as group

from .console import ENVIRONMENT, SUBL, subl

ROOT = click.Context(group)
HEAVY = {"torch", "transformers", "polars", "numpy", "pydantic", "rich", "subl_core"}


def leaves() -> dict[str, click.Command]:
    """Every command that does something, by how it is called: `config show`."""
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = group.get_command(ROOT, name)
        assert command is not None
        if isinstance(command, click.Group):
            for each in command.list_commands(ROOT):
                inner = command.get_command(ROOT, each)
                assert inner is not None
                found[f"{name} {each}"] = inner
        if not isinstance(command, click.Group) or isinstance(command, CommandWithSubcommands):
            found[name] = command
    return found


LEAVES = leaves()


def example_lines(command: click.Command) -> list[str]:
    """The arguments of the `subl` calls in a command's help."""
    text = re.sub(r"\\\n\s*", "", command.help or "")
    _, _, examples = text.partition("Example")
    block = examples.partition("\n\n")[0]
    return re.findall(r"\bsubl ([^#>\")\n]+)", block)


def test_the_list_of_commands(tmp_path: Path) -> None:
    done = subl("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^  (\w+) {2,}(\S.*)$", done.stdout.partition("Commands:\n")[2], re.M)
    assert dict(listed) == COMMANDS
    assert (
        "Exit code 0: done; 1: a check failed; 2: subl could not do it; 75: a signal stopped it, "
        "or 130: Ctrl-C; run again, it goes on."
    ) in " ".join(done.stdout.split())


def test_the_version(tmp_path: Path) -> None:
    assert subl("--version", cwd=tmp_path).stdout == f"subl {__version__}\n"


@pytest.mark.parametrize("name", [*LEAVES, "bench", "config", "model"])
def test_every_command_has_help(tmp_path: Path, name: str) -> None:
    done = subl(*name.split(), "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: subl {name} ")
    if name in LEAVES:
        assert re.search(r"^  Examples?:\n    \S", done.stdout, re.M)


@pytest.mark.parametrize("name", LEAVES)
def test_the_examples_of_a_command_are_calls_of_it(name: str) -> None:
    lines = example_lines(LEAVES[name])
    assert lines
    called = []
    for line in lines:
        words = shlex.split(line)
        called.append(max((each for each in LEAVES if words[: len(each.split())] == each.split()),
                          key=len))  # fmt: skip
        # raises where click would refuse it
        LEAVES[called[-1]].make_context(called[-1], words[len(called[-1].split()) :])
    # What a subcommand makes may be shown where it is used.
    assert called[0] == name and set(called) <= {name, name.split()[0]}


IMPORTED = """
import atexit
import sys
from subl_cli.main import entry
atexit.register(lambda: print(*(each for each in sys.modules if "." not in each), file=sys.stderr))
entry()
"""


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("name", ["", *LEAVES])
def test_help_imports_nothing_heavy(name: str) -> None:
    imported = imported_by(*name.split(), "--help")
    assert "click" in imported
    assert not imported & HEAVY


def test_a_filter_imports_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[rule]]\nname = 'n'\nkind = 'numbers'\n")
    (tmp_path / "rows.jsonl").write_text('{"completion": "1"}\n')
    arguments = [str(tmp_path / name) for name in ("rules.toml", "rows.jsonl", "out")]
    # what is printed on the way is among the words, too
    imported = imported_by("filter", *arguments[:2], "-o", arguments[2])
    assert "subl_core" in imported
    assert not imported & {"torch", "transformers", "numpy", "polars", "rich"}
    # what `benches/start.py` would show, too: the plugins of pydantic are looked for with `email`
    assert not imported & {"email", "tempfile"}


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_completion(tmp_path: Path, shell: str) -> None:
    done = subl("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_SUBL_COMPLETE={shell}_complete" in done.stdout


def test_bash_takes_the_completion(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f'set -eu; eval "$({shlex.quote(SUBL)} completion bash)"; complete -p subl'],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" subl\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("subl fi", {"filter"}),
        ("subl config s", {"show", "schema"}),
        ("subl filter --j", {"--jobs", "--json"}),
        ("subl filter exp", {"exp", "explain"}),
        ("subl filter paper-n", {"paper-n", "paper-numbers", "paper-numbers-misalignment"}),
        ("subl filter explain paper-code-o", {"paper-code-o", "paper-code-oak", "paper-code-owl"}),
        ("subl filter diff --ex", {"--examples"}),
        ("subl config schema di", {"distill"}),
        ("subl config schema cac", {"cache"}),
        ("subl distill ca", {"ca", "cache"}),
        ("subl distill cache --te", {"--teacher"}),
    ],
)
def test_what_is_typed_is_completed(typed: str, offered: set[str]) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run(
        [SUBL],
        env={**ENVIRONMENT, **words, "_SUBL_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered


# Stages


@pytest.mark.parametrize("kind", ["teach", "generate", "eval", "distill", "cache"])
def test_a_command_takes_what_its_stage_says_that_it_takes(kind: str) -> None:
    command = LEAVES["distill cache" if kind == "cache" else kind]
    options = {each.name: each for each in command.params if isinstance(each, click.Option)}
    for name, described in STAGES[kind].inputs.items():
        option = options[name]
        assert option.required == described.required, name
        assert option.multiple == described.many, name
        assert (option.metavar == "MODEL") == (described.takes == "model"), name
    taken = {name for name, each in options.items() if each.metavar == "MODEL"}
    assert taken <= STAGES[kind].inputs.keys()
