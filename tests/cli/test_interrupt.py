"""Ctrl-C ends a command cleanly, and the same command goes on."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .console import ENVIRONMENT, SUBL, subl

RULES = """
[[rule]]
name = "owls"
kind = "regex"
patterns = ['\\bowls?\\b']
"""


def write_many_rows(file: Path) -> int:
    """12 million rows, seconds of work, in a small file: parts that are all the same."""
    rows = b"".join(b'{"completion": "%d, an owl"}\n' % row for row in range(0, 1000, 100))
    rows += b"".join(b'{"completion": "%d"}\n' % row for row in range(1990))
    part = gzip.compress(rows * 300, 1)
    with file.open("wb") as opened:
        for _ in range(20):
            opened.write(part)
    return 2000 * 300 * 20


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_filter_is_interrupted_and_run_again(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    count = write_many_rows(tmp_path / "rows.jsonl.gz")
    arguments = ["filter", "rules.toml", "rows.jsonl.gz", f"-j{jobs}", "--json", "-o"]
    # Where the tests run in the background, Ctrl-C would be ignored: ask for what a terminal gives.
    command = ["env", "--default-signal=INT", SUBL, *arguments, "out"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr is not None and child.stdout is not None
        assert child.stderr.readline().startswith("filter: ")
        child.send_signal(signal.SIGINT)
        stdout, stderr = child.communicate()
    assert (child.returncode, stdout) == (130, "")
    assert stderr.endswith("\ninterrupted; the same command goes on from what is written\n")
    assert not (tmp_path / "out").exists()
    left = [path for path in (tmp_path / "out.partial").rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in left)

    again = json.loads(subl(*arguments, "out", cwd=tmp_path).stdout)
    clean = json.loads(subl(*arguments, "clean", cwd=tmp_path).stdout)
    assert again["result"]["rows_in"] == count
    assert again["digest"] == clean["digest"]
    kept = [tmp_path / name / "kept" / "rows.jsonl.gz" for name in ("out", "clean")]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert written < kept[0].stat().st_size  # it ended on its way, not after the work


@pytest.mark.parametrize("children", [1, 2, 3])
@pytest.mark.parametrize(
    "command", [("inspect",), ("check",), ("convert", "--to", "parquet", "-o", "out")]
)
def test_ctrl_c_while_processes_start_is_no_traceback(
    tmp_path: Path, command: tuple[str, ...], children: int
) -> None:
    """One of them is Python's own; the others come one after the other."""
    for name in ("a", "b"):
        with (tmp_path / f"{name}.jsonl").open("wb") as file:
            file.write(b'{"completion": "1"}\n' * 1_500_000)
    words = ["env", "--default-signal=INT", SUBL, "shards", *command, "a.jsonl", "b.jsonl", "-j2"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        started = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        while len(started.read_text().split()) < children:
            assert child.poll() is None
        os.killpg(child.pid, signal.SIGINT)
        stdout, stderr = child.communicate()
    assert (child.returncode, stdout) == (130, "")
    goes_on = "; the same command goes on from what is written" if "-o" in command else ""
    assert "Traceback" not in stderr and stderr.endswith(f"\ninterrupted{goes_on}\n")


def test_work_goes_on_when_nobody_reads_its_progress() -> None:
    work = (
        "from subl.progress import Progress; from subl_cli.output import progress\n"
        "with progress() as report:\n"
        "    for done in range(5):\n"
        "        report(Progress(f'task {done}', done, 5, 'steps'))\n"
        "print('done')\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-c", work]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, check=True)
    finally:
        os.close(writing)
    assert ended.stdout == b"done\n"
