"""Filter shards on the machines of a Ray cluster: `run(…, engine=RayEngine(…))`.

A task of Ray is one shard: it calls the same engine with the same arguments as a thread here does,
on files that every machine must see, and returns the figures alone. Who runs the command notes what
is finished, so a run that is interrupted goes on, on Ray or without. Ray starts a task again whose
worker or machine was lost; it goes on from the shard's journal.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import subl_core

from subl.artifact import write_atomically
from subl.cores import cores
from subl.errors import ConfigError, StageError
from subl.extras import require
from subl.filter.spec import FilterSpec

LOOK_SECONDS = 0.5
NOTE_SECONDS = 5.0
"""Between a worker's notes of how far it is: a file is written each time."""

RETRIES = 5
"""How often a shard is begun again whose worker was killed, or its machine lost."""

_STORE_BYTES = 80 * 2**20  # Ray's least; what comes back of a shard is a kilobyte
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Else workers that memory is short for are started again without end.
    "RAY_task_oom_retries": str(RETRIES),
}

Progress = Callable[[int, int, int, int], object]


class RayEngine:
    """A Ray cluster as where shards are filtered; a context manager, in which it is connected to.

    Args:
        address: of a cluster's head, `HOST:PORT`, or `auto` for the one that `RAY_ADDRESS` or this
            machine's files name. None starts one on this machine, for the block alone.
        jobs: how many processors to take at most; None for all that the cluster has.

    Attributes:
        jobs: how many threads may work at a time, on all machines together.
        place: the cluster in a few words, such as `2 machines with 32 CPUs at 10.0.0.1:6379`.

    A process that is connected to Ray already stays so, and `address` is refused.

    Raises:
        DependencyError: ray is not installed.
        ConfigError: no cluster answers at `address`.
    """

    jobs: int
    place: str

    def __init__(self, address: str | None = None, jobs: int | None = None) -> None:
        require("ray", "ray", what="--engine ray")
        self._address, self._most = address, jobs
        self._folder: Path | None = None
        self._mine = False
        self._token: dict[str, str] = {}

    def __enter__(self) -> RayEngine:
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        if self._address is None and "RAY_AUTH_MODE" not in os.environ:
            # Ray would leave a token in the home folder, which other clusters then ask for.
            self._token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ |= self._token
        import ray

        if ray.is_initialized():
            if self._address is not None:
                raise ConfigError("this process is connected to Ray already: give no address")
        else:
            self._mine = True
        try:
            self._connect()
        except BaseException:
            self._close()
            raise
        return self

    def _connect(self) -> None:
        import ray

        if self._mine:
            self._start()
        machines = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        self._widest = int(max(machines))
        self.jobs = min(int(sum(machines)), self._most or int(sum(machines)))
        where = "on this machine" if self._address is None else f"at {self._address}"
        count = f"{len(machines)} machine{'s' if len(machines) > 1 else ''}"
        self.place = f"{count} with {int(sum(machines))} CPUs {where}"
        self._task = ray.remote(max_retries=RETRIES, retry_exceptions=False)(_filter)

    def _start(self) -> None:
        import ray

        if self._address is not None:
            _reach(self._address)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is None:
            # Not /tmp/ray, which is the first user's who was there.
            # Sockets have short names, so not in a long TMPDIR.
            self._folder = Path(tempfile.mkdtemp(prefix="subl-ray-", dir="/tmp"))
            options |= {"num_cpus": self._most or cores(), "include_dashboard": False}
            # Ray opens its folder to everybody; the one around it is ours alone.
            options |= {"object_store_memory": _STORE_BYTES, "_temp_dir": str(self._folder / "r")}
        try:
            ray.init(self._address or "local", **options)
        except (OSError, RuntimeError, ValueError) as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else "no answer"
            raise ConfigError(
                f"Ray, {self._address or 'on this machine'}: {said}",
                hint="`ray status --address HOST:PORT` says whether a cluster answers there; one "
                "that asks for a token needs RAY_AUTH_MODE=token here, too",
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._mine:
            import ray

            ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        for key in self._token:
            os.environ.pop(key, None)

    def filter_shard(
        self,
        spec: FilterSpec,
        shard: Path,
        kept: str,
        rejects: str,
        *,
        work: str,
        threads: int,
        progress: Progress,
        called: Path,
        **options: Any,
    ) -> str:
        """As `subl_core.filter_shard`, by a task of Ray. `progress` may raise, which ends the task.

        Raises:
            StageError: the worker was lost more often than `RETRIES`, or cannot be what it must.
            FilterError: as that function raises it, from the worker.
        """
        import ray

        note = _note_of(Path(work).absolute().parent, Path(kept).name)
        note.parent.mkdir(exist_ok=True)
        threads = max(1, min(threads, self._widest))
        waiting = self._task.options(
            num_cpus=threads, name=ascii(f"filter {shard.name}")[1:-1]
        ).remote(
            spec.model_dump_json(),
            {"input": str(shard.absolute()), "kept": str(Path(kept).absolute())}
            | {"rejects": str(Path(rejects).absolute()), "work": str(Path(work).absolute())}
            | {"threads": threads, "called": str(called), **options},
            str(note),
            subl_core.__version__,
        )
        try:
            while not ray.wait([waiting], timeout=LOOK_SECONDS)[0]:
                progress(*_noted(note))
            found: dict[str, str] = ray.get(waiting)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error  # what the task raised, if it did
            said = str(cause).strip().splitlines()[0]
            raise StageError(
                f"{shard}: Ray: {said}", hint="the same command goes on with what is not finished"
            ) from error
        except BaseException:
            ray.cancel(waiting, force=True)
            raise
        if "error" in found:
            raise getattr(subl_core, found["kind"])(found["error"])
        return found["figures"]


def _reach(address: str) -> None:
    """Ray itself asks an address where nobody answers for more than nine minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():  # `auto`, or a client's `ray://`
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(
            f"nothing answers at {address}: {error.strerror or error}",
            hint="`ray start --head` prints the address of the cluster that it starts",
        ) from error


def wait_for_workers(folder: Path, names: Iterable[str]) -> None:
    """Wait until no worker of a command that was killed writes shards of these names in `folder`:
    some seconds."""
    for name in names:
        lock = _note_of(folder, name).with_suffix(".lock")
        if lock.exists():
            with lock.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)


def _note_of(folder: Path, name: str) -> Path:
    """Where a worker notes how far it is with the shard of this name."""
    return folder / ".ray" / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.json"


def _noted(note: Path) -> tuple[int, int, int, int]:
    try:
        read, rows, kept, skipped = json.loads(note.read_bytes())
    except (OSError, ValueError):  # it has not begun
        return 0, 0, 0, 0
    return read, rows, kept, skipped


@lru_cache(maxsize=1)
def _plan(spec: str) -> subl_core.Plan:
    return FilterSpec.model_validate_json(spec).plan()


def _filter(spec: str, files: dict[str, Any], note: str, version: str) -> dict[str, str]:
    """The task. What goes wrong with files comes back as text: exceptions would be pickled."""
    if subl_core.__version__ != version:
        raise RuntimeError(
            f"subl {subl_core.__version__} is installed on a worker, {version} asked for it"
        )
    if not Path(files["work"]).is_dir():
        raise RuntimeError(f"{files['work']} is not there on {os.uname().nodename}")
    last = time.monotonic()

    def progress(*state: int) -> None:
        nonlocal last
        if time.monotonic() - last > NOTE_SECONDS:
            last = time.monotonic()
            write_atomically(Path(note), json.dumps(state))

    # Of a command that was killed, workers may be at it for some more seconds.
    with Path(note).with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return {"figures": subl_core.filter_shard(_plan(spec), progress=progress, **files)}
        except subl_core.FilterError as error:
            return {"kind": type(error).__name__, "error": str(error)}
