"""Run a module as several ranks on this machine under torchrun, and read rank 0's events.

Children die with their parent, however it ends: a killed run leaves nobody writing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from subl.errors import StageError


def run_ranks(
    module: str, arguments: list[str], ranks: int, log: Path
) -> Generator[dict[str, Any]]:
    """Run `python -m MODULE ARGUMENTS` on `ranks` processes; yield rank 0's JSON lines.

    What the ranks print otherwise goes to `log`. Ends them all when the caller stops early.

    Raises:
        StageError: a rank failed; the message carries the end of the log.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", module, *arguments]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(max(1, cores // ranks)),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_file,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
            status = process.wait()
        finally:
            _end(process)
    if status:
        tail = log.read_text(errors="replace").splitlines()[-15:]
        raise StageError(
            f"a rank of {module} failed with status {status}:\n  " + "\n  ".join(tail),
            hint=f"the whole log is {log}",
        )


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it ends."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
