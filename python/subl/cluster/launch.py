"""Run a module as several ranks on this machine, and read rank 0's events.

Children die with their parent, however it ends: a killed run leaves nobody writing. A signal that
asks to stop (SIGTERM, SIGUSR1, Ctrl-C) is passed on as SIGUSR1, for the ranks to save what they
have; a second Ctrl-C ends them at once.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from subl.cluster.placement import RENDEZVOUS
from subl.cores import cores
from subl.errors import StageError, StoppedError
from subl.progress import Progress, Report, silent

POLL_SECONDS = 0.2
LAST_WORDS_SECONDS = 3.0


def launch(module: str, job: str, ranks: int, log: Path, report: Report = silent) -> dict[str, Any]:
    """The figures of `python -m MODULE JOB` on `ranks` processes (see `rank.run_as_rank`).

    Raises:
        StoppedError: a signal asked to stop.
        StageError: a rank failed.
    """
    figures: dict[str, Any] | None = None
    with closing(run_ranks(module, [job], ranks, log)) as events:
        for event in events:
            if "progress" in event:
                report(Progress(**event["progress"]))
            elif "stopped" in event:
                raise StoppedError(event["stopped"]["message"], event["stopped"]["hint"])
            elif "error" in event:
                raise StageError(event["error"]["message"], event["error"]["hint"])
            elif "figures" in event:
                figures = event["figures"]
    if figures is None:
        raise StageError("the ranks ended without a result", hint=f"the log is {log}")
    return figures


def run_ranks(
    module: str, arguments: list[str], ranks: int, log: Path
) -> Generator[dict[str, Any]]:
    """Run `python -m MODULE ARGUMENTS` on `ranks` processes; yield rank 0's JSON lines.

    What the ranks print otherwise goes to `log`. Ends them all when the caller stops early.

    Raises:
        StageError: a rank failed; the message carries the end of the log.
    """
    command = [sys.executable, "-m", module, *arguments]
    meeting = log.with_name(f".rendezvous-{os.getpid()}")
    meeting.unlink(missing_ok=True)
    shared = {
        **os.environ,
        "WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": str(max(1, cores() // ranks)),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        RENDEZVOUS: str(meeting),
    }
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as log_file:
        try:
            with stop_signals() as stopping:
                for rank in range(ranks):
                    processes.append(
                        subprocess.Popen(
                            command,
                            stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE if rank == 0 else log_file,
                            stderr=log_file,
                            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                            start_new_session=True,
                            preexec_fn=_prepare,
                        )
                    )
                yield from _events(processes, stopping)
                failed = _wait(processes, stopping)
        finally:
            _end(processes)
            meeting.unlink(missing_ok=True)
    if failed is not None:
        rank, status = failed
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise StageError(
            f"rank {rank} of {module} failed with status {status}:\n  " + "\n  ".join(tail),
            hint=f"the whole log is {log}",
        )


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it ends."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _prepare() -> None:
    die_with_parent()
    # Until the rank listens; it is sent again then.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _events(
    processes: list[subprocess.Popen[bytes]], stopping: list[int]
) -> Iterator[dict[str, Any]]:
    """Rank 0's lines, until it ends or another rank fails."""
    stdout = processes[0].stdout
    assert stdout is not None
    descriptor, pending = stdout.fileno(), b""
    deadline = math.inf
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if stopping:
                _signal(processes, signal.SIGUSR1)
            if selector.select(POLL_SECONDS):
                data = os.read(descriptor, 1 << 16)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                yield from map(json.loads, lines)
            elif any(process.poll() for process in processes[1:]):
                # Rank 0 may be about to say the same, and better: it has the error's hint.
                deadline = min(deadline, time.monotonic() + LAST_WORDS_SECONDS)
                if time.monotonic() >= deadline:
                    return


def _wait(processes: list[subprocess.Popen[bytes]], stopping: list[int]) -> tuple[int, int] | None:
    """Wait for all, but not for those that wait for one that failed: (rank, its status)."""
    while True:
        if stopping:
            _signal(processes, signal.SIGUSR1)
        states = [process.poll() for process in processes]
        for rank, status in enumerate(states):
            if status:
                return rank, status
        if None not in states:
            return None
        waiting = states.index(None)
        try:
            processes[waiting].wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGUSR1 end what is done here with a `StoppedError`, at once.

    For work that saves as it goes or is soon done again; training collects signals instead.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise StoppedError(
            f"stopped by {signal.Signals(number).name}", hint="the same command goes on"
        )

    before = {each: signal.signal(each, handle) for each in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect signals that ask to stop, instead of dying of them; a second Ctrl-C interrupts."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # only the main thread may handle signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        if not came:
            again = b"; Ctrl-C again ends at once" if number == signal.SIGINT else b""
            with suppress(OSError):  # past Python's buffers, which may be in use right now
                os.write(2, b"\nstopping at the end of this step" + again + b"\n")
        came.append(number)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            # Who asks so asks again until the process has ended, which must not end it sooner.
            asks_again = number == signal.SIGUSR1 and number in came
            signal.signal(number, signal.SIG_IGN if asks_again else handler)


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def _signal(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.stdout is not None:
            process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()
