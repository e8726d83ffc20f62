"""Processes that share work on shards give what one gives, and one that is killed is said."""

from __future__ import annotations

import math
import os
import signal

import pytest

from subl.errors import StageError
from subl.shards import spread as module
from subl.shards.spread import spread


def test_each_task_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, sizes = [(number,) for number in range(9)], list(range(9))
    alone = dict(spread(math.factorial, tasks, sizes, 4))  # so little is worth one process
    monkeypatch.setattr(module, "_WORTH_BYTES", 1)
    assert dict(spread(math.factorial, tasks, sizes, 2)) == alone
    assert alone == {number: math.factorial(number) for number in range(9)}


def test_a_process_that_was_killed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORTH_BYTES", 1)
    with pytest.raises(StageError, match="was killed"):
        list(spread(signal.raise_signal, [(signal.SIGKILL,), (0,)], [1, 1], 2))


def test_an_error_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WORTH_BYTES", 1)
    with pytest.raises(FileNotFoundError):
        list(spread(os.stat, [("/nowhere",), (".",)], [1, 1], 2))
