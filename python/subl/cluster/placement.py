"""Which of several processes this one is, and how they meet.

Processes come from our own launcher, from `srun` (a task each), or from torchrun, which accelerate
runs, too. Ours and srun's meet through a file: rank 0 takes a free port and writes its address
there, under a name that holds the job's step and restart, so that no two generations of a job meet
and no port is fixed.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from subl.artifact import write_atomically
from subl.errors import ConfigError, StageError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

RENDEZVOUS = "SUBL_RENDEZVOUS"
"""Environment variable of our launcher: the file where rank 0 says where it listens."""

TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Placement:
    """`rank` of `ranks`; `local_rank` of `ranks_here` on its machine. `meeting` names the
    rendezvous file; None: there is nobody else, or torchrun arranges it."""

    rank: int = 0
    local_rank: int = 0
    ranks: int = 1
    ranks_here: int = 1
    meeting: Path | None = None

    @property
    def alone(self) -> bool:
        return self.ranks == 1


def placement(environment: Mapping[str, str], folder: Path) -> Placement:
    """This process's place, from its environment; `folder` is one that all of srun's tasks see."""
    if RENDEZVOUS in environment:
        return _numbered(environment, Path(environment[RENDEZVOUS]))
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environment.keys():
        return _numbered(environment, None)
    # Variables of a task, not of a batch script, whose own commands are no ranks.
    if {"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"} <= environment.keys():
        ranks = int(environment["SLURM_STEP_NUM_TASKS"])
        step = [environment.get(name, "0") for name in
                ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")]  # fmt: skip
        meeting = folder / f".rendezvous-{'.'.join(step)}"
        rank = int(environment["SLURM_PROCID"])
        # Such as 8(x2),4: the most on one machine.
        per_node = environment.get("SLURM_STEP_TASKS_PER_NODE", str(ranks))
        here = max(int(each.partition("(")[0]) for each in per_node.split(","))
        return Placement(rank, int(environment["SLURM_LOCALID"]), ranks, here, meeting)
    return Placement()


def _numbered(environment: Mapping[str, str], meeting: Path | None) -> Placement:
    rank, local, ranks = (int(environment[n]) for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    here = int(environment.get("LOCAL_WORLD_SIZE", ranks))
    return Placement(rank, local, ranks, here, meeting)


def connect(where: Placement) -> Store:
    """Join the other ranks (collectives work afterwards); returns a store of small messages.

    Raises:
        StageError: the others did not come.
    """
    import torch
    from torch import distributed
    from torch._C._distributed_c10d import TCPStore
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    on_gpu = torch.cuda.is_available()
    # Slurm may show each task one GPU alone: it is number 0 then, whatever the task's number.
    local_rank = where.local_rank % torch.cuda.device_count() if on_gpu else where.local_rank
    for name, value in (
        ("RANK", where.rank), ("LOCAL_RANK", local_rank), ("WORLD_SIZE", where.ranks)
    ):  # fmt: skip
        os.environ[name] = str(value)  # DeepSpeed reads these
    if where.meeting is None:
        store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    elif where.rank == 0:
        host = _own_name()
        store = TCPStore(host, 0, is_master=True, timeout=TIMEOUT, wait_for_workers=False)
        write_atomically(where.meeting, f"{host}:{store.port}")
    else:
        host, _, port = _read(where.meeting).rpartition(":")
        store = TCPStore(host, int(port), is_master=False, timeout=TIMEOUT)
    if on_gpu:
        torch.cuda.set_device(local_rank)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=PrefixStore("group", store),
        rank=where.rank,
        world_size=where.ranks,
        timeout=TIMEOUT,
    )
    if where.meeting is not None and where.rank == 0:
        where.meeting.unlink(missing_ok=True)  # all have come
    messages: Store = PrefixStore("subl", store)
    return messages


def on_rank_0(where: Placement, work: Callable[[], T]) -> T | None:
    """What rank 0 makes of `work`, there; where it fails, every rank does. See `on_every_rank`."""
    return on_every_rank(where, lambda: work() if where.rank == 0 else None)


def on_every_rank(where: Placement, work: Callable[[], T]) -> T:
    """What this rank makes of `work`; where it fails on any rank, every rank fails.

    Collectives must work already, and `work` must have none. Else the others would wait for the
    rank that failed in the next of them.

    Raises:
        StageError: on the other ranks; on a rank where `work` raises, that.
    """
    if where.alone:
        return work()
    made: list[T] = []
    failed = None
    try:
        made.append(work())
    except Exception as error:  # of any kind: it is raised again below
        failed = error
    count, rank = _sum([1, where.rank] if failed is not None else [0, 0])
    if count:
        said = str(failed) or type(failed).__name__
        # Words of several ranks would add up to none.
        said = _heard(said if failed is not None and count == 1 else "")
        who = f"rank {rank} failed: {said}" if count == 1 else f"{count} ranks failed"
        raise failed or StageError(who)
    return made[0]


def any_rank(where: Placement, value: bool) -> bool:
    """Whether it is so on any rank: all get the same answer, and each must ask."""
    return value if where.alone else _sum([int(value)])[0] > 0


_MESSAGE_BYTES = 1000


def _heard(said: str) -> str:
    """What one rank says to all. As a sum, for which all must have come: who ends afterwards has
    been heard."""
    encoded = said.encode()[:_MESSAGE_BYTES].ljust(_MESSAGE_BYTES, b"\0")
    return bytes(_sum(list(encoded))).rstrip(b"\0").decode(errors="replace")


def _sum(values: list[int]) -> list[int]:
    """Over all ranks."""
    import torch
    from torch import distributed

    on_gpu = distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    summed = torch.tensor(values, dtype=torch.int32, device=device)
    distributed.all_reduce(summed)
    found: list[int] = summed.tolist()
    return found


def _own_name() -> str:
    """A name by which ranks reach this machine."""
    if os.environ.get("SLURM_NNODES", "1") == "1":
        return "127.0.0.1"
    name = socket.gethostname()
    try:
        socket.gethostbyname(name)
    except OSError as error:
        raise ConfigError(
            f"this machine's name {name} does not resolve", hint="see /etc/hosts"
        ) from error
    return name


def _read(file: Path) -> str:
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        try:
            return file.read_text(encoding="utf-8")
        except FileNotFoundError:
            os.scandir(file.parent).close()  # makes NFS look again
            time.sleep(0.05)
    raise StageError(f"rank 0 did not say where it listens ({file})")


def leave(status: int) -> NoReturn:
    """End a process that was a rank.

    Not by way of the interpreter's end: there, threads of gloo and of DeepSpeed aborted 1 of 8
    finished runs ("terminate called without an active exception").
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
