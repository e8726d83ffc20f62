"""Who is making an artifact: so that two runs of an experiment do not make the same one.

A lease is a file that its holder touches every few seconds. On the machine of the holder the kernel
knows whether it is alive, for the file is locked; from another machine a lease that nobody has
touched for a while is over. Who takes over writes the next number: creating a file is one for all.
The lock of the unfinished artifact itself stays: a lease only tells runs apart in time.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT_SECONDS = 10.0
OVER_SECONDS = 120.0
"""After so long without a sign of life: some network file systems show times this late."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease."""

    machine: str
    process: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.machine}"


class HeldError(Exception):
    """Somebody else holds the lease."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


@contextmanager
def leased(path: Path) -> Iterator[None]:
    """Hold the lease `path` while the block runs.

    Raises:
        HeldError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    if last := _last(path):
        if holder := _alive(last):
            raise HeldError(holder)
        number = _number(last) + 1
    mine = path.with_name(f"{path.name}.{number}")
    draft = path.with_name(f".{os.urandom(8).hex()}.lease")
    draft.write_text(json.dumps({"machine": _machine(), "process": os.getpid()}), encoding="utf-8")
    descriptor = os.open(draft, os.O_RDWR)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(mine, done), daemon=True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            os.link(draft, mine)  # with its lock, and only if nobody else was first
        except FileExistsError:
            raise HeldError(_holder(mine) or Holder("another machine", 0)) from None
        except OSError:  # a file system without links: a rename would not say who was first
            try:
                os.close(os.open(mine, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                raise HeldError(_holder(mine) or Holder("another machine", 0)) from None
            draft.replace(mine)
        finally:
            draft.unlink(missing_ok=True)
        beating.start()
        try:
            yield
        finally:
            done.set()
            beating.join()
            for each in _all(path):
                if _number(each) <= number:
                    each.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds the lease `path`; None where nobody does."""
    last = _last(path)
    return None if last is None else _alive(last)


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _all(path: Path) -> list[Path]:
    pattern = re.compile(re.escape(path.name) + r"\.\d+")
    try:
        return [each for each in path.parent.iterdir() if pattern.fullmatch(each.name)]
    except OSError:
        return []


def _last(path: Path) -> Path | None:
    return max(_all(path), key=_number, default=None)


def _number(path: Path) -> int:
    return int(path.name.rpartition(".")[2])


def _alive(path: Path) -> Holder | None:
    """The holder, if it still shows signs of life."""
    found = _holder(path) or Holder("another machine", 0)
    try:
        if found.machine == _machine():
            return found if _locked(path) else None
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return None
    with tempfile.TemporaryFile(dir=path.parent) as now:  # by that file system's clock
        age = os.fstat(now.fileno()).st_mtime - touched
    return found if abs(age) < OVER_SECONDS else None


def _locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _holder(path: Path) -> Holder | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Holder(str(record["machine"]), int(record["process"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _machine() -> str:
    """A name that no two machines share, even where they are called alike."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    suffix = f" ({boot.read_text(encoding='utf-8').strip()[:8]})" if boot.is_file() else ""
    return f"{platform.node()}{suffix}"
