"""How many requests a server is sent at a time: as many as it keeps up with.

Half as many after it says that it is too many, then one more each time that as many were answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pace:
    """Turns of requests, at most `most` at a time. Of one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._running = 0
        self._free = asyncio.Condition()
        self._silent_until = 0.0
        self._halved = 0

    @property
    def limit(self) -> int:
        """Requests at a time, right now."""
        return int(self._limit)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait until a request may be made; it is under way within."""
        async with self._free:
            await self._free.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            while (left := self._silent_until - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(left)
            yield Turn(self, self._halved)
        finally:
            async with self._free:
                self._running -= 1
                self._free.notify_all()

    def slower(self, halved: int, silent_seconds: float) -> None:
        """See `Turn.slower`."""
        if halved == self._halved:
            self._halved += 1
            self._limit = max(1.0, self._limit / 2)
        now = asyncio.get_running_loop().time()
        self._silent_until = max(self._silent_until, now + silent_seconds)

    def faster(self) -> None:
        """See `Turn.faster`."""
        self._limit = min(self._most, self._limit + 1 / self._limit)


class Turn:
    """One request's, which tells how the server took it."""

    def __init__(self, pace: Pace, halved: int) -> None:
        self._pace = pace
        self._halved = halved

    def slower(self, silent_seconds: float) -> None:
        """The server says that it is too many; nothing more is sent for so long.

        All requests that were under way hear that: only the first one counts.
        """
        self._pace.slower(self._halved, silent_seconds)

    def faster(self) -> None:
        """The server answered."""
        self._pace.faster()
