"""A client of a server, and how fast it may ask, for all requests of a run.

Requests are made by a thread with an event loop: who waits for answers can be interrupted at any
time, and is given those that came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

from subl.errors import SublError
from subl.sample.backend import Request
from subl.sample.pace import Pace
from subl.sample.tables import Http

Read = TypeVar("Read")

_LOOK_UP_SECONDS = 0.5
"""A signal that comes right before a wait is not noticed until after it."""


class Connection:
    """To the server that `table` names, until it is closed.

    Attributes:
        client: of the loop's thread, as `pace` is.
    """

    def __init__(self, table: Http) -> None:
        from openai import AsyncOpenAI

        self.client = AsyncOpenAI(
            base_url=table.base_url,
            api_key="none",  # it wants one; what is sent, requests say
            max_retries=0,
            timeout=table.timeout_seconds,
        )
        self.pace = Pace(table.concurrency)
        self._at_once = table.concurrency
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._over = asyncio.Event()
        self._thread = Thread(target=self._run, name="subl-requests", daemon=True)
        self._thread.start()

    def each(
        self, requests: Sequence[Request], ask: Callable[[Connection, Request], Awaitable[Read]]
    ) -> Generator[tuple[int, Read], None, None]:
        """What `ask` makes of each request, with its place, as it comes."""
        came: SimpleQueue[tuple[int, Read] | None] = SimpleQueue()  # None: no more will come
        wrong: list[BaseException] = []
        ended = Event()

        async def work() -> None:
            left = iter(enumerate(requests))

            async def ask_in_turn() -> None:
                for place, request in left:
                    came.put((place, await ask(self, request)))

            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._at_once, len(requests))):
                    group.create_task(ask_in_turn())

        def end(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                wrong.append(error)
            came.put(None)
            ended.set()

        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work()))
            tasks[0].add_done_callback(end)

        def stop() -> None:
            with suppress(RuntimeError):  # it is closed, and all has ended
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            ended.wait()

        self._loop.call_soon_threadsafe(begin)
        try:
            while True:
                try:
                    each = came.get(timeout=_LOOK_UP_SECONDS)
                except Empty:
                    continue
                if each is None:
                    break
                yield each
        except GeneratorExit:  # nobody takes more
            raise
        except BaseException:  # a signal, here or thrown in: what was answered comes before it
            stop()
            while not came.empty():
                if (each := came.get()) is not None:
                    yield each
            raise
        finally:
            stop()
        if wrong:
            raise _first(wrong[0]) from None

    def close(self) -> None:
        """End what is under way, and the connections."""
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._whole())

    async def _whole(self) -> None:
        async with self.client:
            await self._over.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        await asyncio.sleep(0)  # connections that were closed end in the loop's next turn


def _first(error: BaseException) -> BaseException:
    """Of the errors of tasks, one that says something to a person if there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    each = [_first(inner) for inner in error.exceptions]
    return next((one for one in each if isinstance(one, SublError)), each[0])
