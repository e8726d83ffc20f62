"""On a terminal: a bar that takes no text for markup and gives the cursor back."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from .console import ENVIRONMENT

HOSTILE = "[bold]owls[/bold] \\x1b]0;owned\\x07"
DRAWN = f"""
import sys
from subl.progress import Progress
from subl_cli.output import progress
with progress() as report:
    report(Progress("{HOSTILE}", 1, 4, "rows"))
    report(Progress("{HOSTILE}", 3, 4, "rows"))
    if "stop" in sys.argv:
        raise KeyboardInterrupt
"""


def on_a_terminal(*arguments: str, code: str = DRAWN, **environment: str) -> str:
    """What a terminal gets of stdout and stderr."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**ENVIRONMENT, "COLUMNS": "120", "TERM": "xterm", **environment},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    said = b""
    try:
        while part := os.read(leader, 4096):
            said += part
    except OSError:  # how a terminal ends that nobody writes to
        pass
    process.wait()
    os.close(leader)
    return said.decode()


@pytest.mark.parametrize("arguments", [[], ["stop"]])
def test_a_bar_is_drawn_and_ends(arguments: list[str]) -> None:
    said = on_a_terminal(*arguments)
    assert "━" in said and "3/4 rows" in said
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1  # the cursor: hidden, shown
    assert r"[bold]owls[/bold] \x1b]0;owned\x07: 3/4 rows" in said
    assert "\x1b]" not in said and "\x07" not in said


def test_without_colour_there_is_none() -> None:
    coloured = re.compile(r"\x1b\[[39]\d[;m]")
    assert coloured.search(on_a_terminal())
    assert not coloured.search(on_a_terminal(NO_COLOR="1"))


def test_a_dumb_terminal_gets_lines() -> None:
    said = on_a_terminal(TERM="dumb")
    assert "━" not in said and "\x1b" not in said and "rows" in said


def test_a_narrow_terminal_gets_one_line() -> None:
    said = on_a_terminal(COLUMNS="40")
    assert "…" in said and "\x1b[1A" not in said


TABLE = """
from subl_cli.output import table
print(table([("[bold]owls[/bold]", "1")], ("rule", "rows")))
"""


def test_a_table_is_drawn_and_no_cell_is_markup() -> None:
    said = on_a_terminal(code=TABLE)
    assert "─" in said and "[bold]owls[/bold]" in said
    plain = on_a_terminal(code=TABLE, TERM="dumb")
    assert plain.splitlines() == ["rule               rows", "[bold]owls[/bold]     1"]
