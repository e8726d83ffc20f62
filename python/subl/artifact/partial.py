"""The directory in which an artifact is made: who may work in it, and what is left there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from subl.artifact import seen
from subl.artifact.files import is_temporary
from subl.errors import BusyError, OutputError

LOCK = ".lock"
"""What the names of all locks in a partial directory begin with."""


@contextmanager
def locked(
    partial: Path,
    name: str = LOCK,
    *,
    how: int = fcntl.LOCK_EX,
    wait: bool = False,
    what: str | None = None,
) -> Iterator[None]:
    """Hold a lock of the partial directory for this process; the kernel lets go when it dies.

    Args:
        what: it is held for; for the message.

    Raises:
        BusyError: another process holds it.
    """
    try:
        descriptor = _opened(partial, name)
    except OSError as error:
        raise OutputError(f"cannot write to {partial}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"another process is writing {what or partial}", hint="wait for it, or stop it"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # others do the same, or are back at it
                _clear(partial, alone=name == LOCK and how == fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _clear(partial: Path, *, alone: bool) -> None:
    """Remove a partial directory in which there is nothing to go on with: somebody else finished
    the work while we asked for it, or, where nobody else may be about to begin, ours came to
    nothing."""
    names = {path.name for path in partial.iterdir()}
    ours = alone and not left_in(partial) and read_spec(partial / "spec.json") is not None
    if ours or all(name.startswith(LOCK) for name in names):
        for name in names:
            (partial / name).unlink(missing_ok=True)
        partial.rmdir()


def _opened(partial: Path, name: str) -> int:
    def opened() -> int:
        partial.mkdir(parents=True, exist_ok=True)
        return os.open(partial / name, os.O_RDWR | os.O_CREAT, 0o644)

    for _ in range(_TRIES):
        with suppress(FileNotFoundError, FileExistsError):  # it was removed in between
            return opened()
    return opened()


_TRIES = 10


def left_in(partial: Path) -> bool:
    """Whether there is anything but locks, records, journals without a line, and what a killed
    write leaves. Much of what stages go on with is hidden."""
    try:
        return any(
            not path.name.startswith(LOCK)
            and path.name not in ("spec.json", seen.RECORD)
            and not is_temporary(path)
            and not (path.name.startswith(".") and _is_empty(path))
            for path in partial.iterdir()
        )
    except OSError:  # there is none; or who locks it says what is wrong
        return False


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def read_spec(file: Path) -> dict[str, Any] | None:
    """What a `spec.json` says; None where there is none of ours."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(record, dict) and isinstance(record.get("key", 0), str | None)
    return record if is_ours and isinstance(record.get("inputs"), dict) else None
