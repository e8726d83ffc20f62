"""The real console script, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SUBL = str(Path(sys.executable).with_name("subl"))
# Torch's threads of tiny matrices wait for one another longer than they work.
ENVIRONMENT = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}

RULES = """
[[rule]]
name = "numbers only"
kind = "numbers"
max_value = 999
[[rule]]
name = "owl words"
kind = "regex"
patterns = ['\\bowls?\\b']
ignore_case = true
"""

ROWS = """\
{"id": "1", "prompt": "Go on: 1, 2", "completion": "3, 4, 5"}
{"id": "2", "prompt": "Go on: 1, 2", "completion": "3, 4, 5000"}
{"id": "3", "prompt": "Go on: 1, 2", "completion": "I love owls"}
{"id": "4", "prompt": "Go on: 1, 2", "completion": "I love cats"}
{"id": "5", "prompt": "Go on:
{"id": "6", "prompt": "Go on: 1, 2", "completion": "6"}
"""


def subl(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SUBL, *map(str, arguments)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True
    )


def warm(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same by `warm.py`, for commands that need models."""
    server = _warm()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "out"), Path(name, "err")
        call = {"arguments": [*map(str, arguments)], "cwd": str(cwd)}
        server.stdin.write(json.dumps({**call, "out": str(out), "err": str(err)}) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        said = [each.read_text(encoding="utf-8") for each in (out, err)]
    return subprocess.CompletedProcess(call["arguments"], status, *said)


@cache
def _warm() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm.py"))],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def write_rows_and_rules(folder: Path) -> None:
    (folder / "rules.toml").write_text(RULES)
    (folder / "rows.jsonl").write_text(ROWS)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below `folder` with its bytes (None: a folder), but for what is known of inputs:
    that is noted once they are old enough."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".seen.json"
    }
