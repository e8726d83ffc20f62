"""The real console script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
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
