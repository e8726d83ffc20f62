"""Mind a command inside a job: pass on the signal to save, write down how it ended, and have the
job go on later if there is more to do.

Slurm signals this process, the job's own (`--signal=B:USR1@…`), and the command saves what it has.
Then exactly this task is put back into the queue, as often as was allowed, and not again after two
starts that came no further. A job that is ended otherwise (SIGTERM: cancelled, or making room for
another) saves, too, and is Slurm's to start again or not.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from subl.cluster.heartbeat import VARIABLE, now, read_beat
from subl.errors import ConfigError, StageError
from subl.slurm.book import BY_SIGNAL, STOPPED, Book, Life, beat_file, lives_file
from subl.slurm.client import Client, called
from subl.slurm.script import INDEX

REQUEUED = "requeued"

_NO_COMMAND = 127
"""As a shell says it."""

_STARTS_IN_PLACE = 2

_AGAIN_SECONDS = 5.0


@dataclass(frozen=True)
class InJob:
    """The task that this process is, as Slurm calls it."""

    job: str
    index: int | None
    restart: int

    @staticmethod
    def of(environment: Mapping[str, str]) -> InJob:
        """Raises ConfigError: this is no job."""
        index = environment.get(INDEX)
        job = environment.get("SLURM_ARRAY_JOB_ID" if index else "SLURM_JOB_ID")
        if job is None:
            raise ConfigError(
                "this is no job of Slurm", hint="subl slurm submit makes jobs that call this"
            )
        restart = int(environment.get("SLURM_RESTART_COUNT", "0"))
        return InJob(job, None if index is None else int(index), restart)

    def __str__(self) -> str:
        """For scontrol: the number alone would be all of an array."""
        return called(self.job, self.index)


def work(
    book: Path,
    number: str,
    command: Sequence[str],
    *,
    restarts: int,
    environment: Mapping[str, str] = os.environ,
    client: Client | None = None,
) -> int:
    """Run the command of a submission's task; the status that the job is to end with.

    Raises:
        ConfigError: this is no job, or there is no such command.
    """
    me = InJob.of(environment)
    beat = beat_file(book, number, me.index)
    earlier = Book(book).lives(number, me.index)
    cpus, memory = (
        int(said) if (said := environment.get(name, "")).isdecimal() else None
        for name in ("SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE")
    )
    life = Life(
        me.job,
        me.restart,
        environment.get("SLURMD_NODENAME", platform.node()),
        now(),
        cpus=cpus,
        memory=None if memory is None else memory * 2**20,
    )
    write = _Writer(lives_file(book, number, me.index))
    write(life)
    began = time.monotonic()
    came: list[int] = []
    try:
        status = _minded(command, {**environment, VARIABLE: str(beat)}, came)
    except ConfigError:
        write(replace(life, ended=now(), status=_NO_COMMAND))
        raise
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    last = read_beat(beat)
    life = replace(
        life,
        ended=now(),
        status=status if status >= 0 else None,
        killed_by=None if status >= 0 else signal.Signals(-status).name,
        told=signal.Signals(came[0]).name if came else None,
        done=None if last is None else (last.task, last.done),
        seconds=round(time.monotonic() - began, 1),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 1),
        most_memory=used.ru_maxrss * 1024,
    )
    if life.stopped and came[0] == signal.SIGUSR1:
        life = replace(life, then=why_not_again([*earlier, life], restarts) or REQUEUED)
    write(life)
    if life.then == REQUEUED:
        try:
            (client or Client()).ask("scontrol", "requeue", str(me))
        except StageError as error:
            write(replace(life, then=f"not requeued: {error.message}"))
    if status < 0:
        return STOPPED if came else BY_SIGNAL - status
    return status


def why_not_again(lives: Sequence[Life], restarts: int) -> str | None:
    """Why a task that saved its work is not started again; None if it is."""
    told = [life for life in lives if life.then == REQUEUED]
    if len(told) >= restarts:
        return f"not requeued: it was {len(told)} times, of {restarts} at most"
    ends = [life.done for life in lives if life.ended is not None][-_STARTS_IN_PLACE - 1 :]
    if len(ends) > _STARTS_IN_PLACE and len(set(ends)) == 1:
        return "not requeued: two starts came no further"
    return None


class _Writer:
    """Appends what is known of a life. Its last line counts."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, life: Life) -> None:
        with self._file.open("ab") as file:
            file.write(json.dumps(asdict(life)).encode() + b"\n")
            os.fsync(file.fileno())


def _minded(command: Sequence[str], environment: Mapping[str, str], came: list[int]) -> int:
    """Run a command and pass signals on to it; its status, negative if a signal ended it.

    Ctrl-C is not passed on: a terminal sends it to all.
    """
    running: list[subprocess.Popen[bytes]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in running:
            each.send_signal(signal.SIGUSR1)

    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {
        each: signal.signal(each, handle) for each in (signal.SIGUSR1, signal.SIGTERM)
    }
    try:
        try:
            process = subprocess.Popen(command, env=dict(environment), preexec_fn=_until_it_listens)
        except OSError as error:
            raise ConfigError(f"cannot run {command[0]}: {error.strerror}") from error
        running.append(process)
        while True:
            try:
                return process.wait(_AGAIN_SECONDS)
            except subprocess.TimeoutExpired:
                if came:  # it may not have listened yet
                    process.send_signal(signal.SIGUSR1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _until_it_listens() -> None:
    """A signal that comes while the command still starts must not end it without a word."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
