"""How long commands take to their first byte, beside Python that does nothing.

The runs take turns, so that what else a machine does is in all of them alike; a median is of 20.
CPU time is that of the whole process, which a busy machine disturbs less.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 20
SUBL = str(Path(sys.executable).with_name("subl"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "subl --version": [SUBL, "--version"],
    "subl --help": [SUBL, "--help"],
    "subl filter - (stdin to stdout)": [SUBL, "filter", "rules.toml", "-"],
    "subl filter -o (a folder)": [SUBL, "filter", "rules.toml", "rows.jsonl", "-o", "out"],
}
RULES = """
[[rule]]
name = "numbers only"
kind = "numbers"
max_value = 999
[[rule]]
name = "owl words"
kind = "regex"
patterns = ['\\bowls?\\b']
"""


def start(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds to the first byte, or to the end of what says nothing, and of CPU time in all."""
    with (folder / "rows.jsonl").open("rb") as rows:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdin=rows, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.perf_counter() - began
        said = process.stdout.read()
        process.stdout.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {said.decode()}")
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(RUNS + 1):
        for name, command in COMMANDS.items():
            with tempfile.TemporaryDirectory(prefix="subl-start-") as text:
                folder = Path(text)
                (folder / "rules.toml").write_text(RULES)
                (folder / "rows.jsonl").write_text('{"completion": "1, 2, 3"}\n')
                times = start(command, folder)
            if turn:  # the first finds files that nobody has read
                found[name].append(times)
    print(f"{'median of ' + str(RUNS):34}{'first byte':>12}{'CPU':>10}")
    for name, each in found.items():
        wall, cpu = (1000 * statistics.median(part) for part in zip(*each, strict=True))
        print(f"{name:34}{wall:9.0f} ms{cpu:7.0f} ms")


if __name__ == "__main__":
    main()
