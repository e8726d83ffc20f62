"""Work on shards in several processes.

Rows are read by Python here, which one process does on one core. No process is forked, for Polars
has threads; each imports what it needs.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any, TypeVar

from subl.errors import StageError

T = TypeVar("T")

_WORTH_BYTES = 16 << 20
"""A process more takes as long to start as to look at so much."""


def spread(
    work: Callable[..., T], tasks: Sequence[tuple[Any, ...]], sizes: Sequence[int], jobs: int
) -> Iterator[tuple[int, T]]:
    """The number of each task and what `work` makes of it, as it is done.

    Args:
        work: a function of a module.
        sizes: bytes that a task is about: in several processes, the largest are begun first.

    Raises:
        StageError: a process was killed.
    """
    jobs = min(jobs, len(tasks), 1 + sum(sizes) // _WORTH_BYTES)
    if jobs <= 1:
        yield from ((number, work(*task)) for number, task in enumerate(tasks))
        return
    order = sorted(range(len(tasks)), key=sizes.__getitem__, reverse=True)
    with _ctrl_c_later():  # half made, its semaphores would be told of at the end
        pool = ProcessPoolExecutor(jobs, get_context("spawn"))
    with pool:
        others = set(active_children())
        try:
            with _ctrl_c_later():
                futures = {pool.submit(work, *tasks[number]): number for number in order}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise StageError(
                "a process that worked on shards was killed", hint="is memory short? give fewer -j"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - others:
                process.terminate()
            raise


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Ctrl-C, which goes to all processes, is kept from those that are started here, which might
    end with a traceback while they import. This one hears of it at the end of the block."""
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    # Processes inherit a mask, but no handler. Other threads of this one hear what is masked here.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(1)) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if came:
            signal.raise_signal(signal.SIGINT)
