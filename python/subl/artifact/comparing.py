"""What makes an artifact only looks at what there is of it: for who asks if it could be made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path


class ComparedError(Exception):
    """Ends what was only to compare."""


_compared: ContextVar[Path | None] = ContextVar("_compared", default=None)


@contextmanager
def comparing(out: Path) -> Iterator[None]:
    """Within, what makes the artifact `out` looks at what there is of it, as `check_out` does, and
    ends there."""
    token = _compared.set(out)
    try:
        yield
    except ComparedError:
        pass
    finally:
        _compared.reset(token)


def compares(out: Path) -> bool:
    """Whether the artifact `out` is only looked at."""
    return _compared.get() == out
