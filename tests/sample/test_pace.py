"""How many requests a server is sent, and how long it is left alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from subl.sample.pace import Pace
from subl.sample.reply import retry_after


def test_half_as_many_after_too_many_then_one_more_a_round() -> None:
    async def run() -> list[int]:
        pace, limits = Pace(16), []
        async with pace.turn() as first, pace.turn() as second:
            first.slower(0)
            limits.append(pace.limit)
            second.slower(0)  # it was under way already: the same news
            limits.append(pace.limit)
        for _ in range(2):
            async with pace.turn() as turn:
                turn.slower(0)
        limits.append(pace.limit)
        for _ in range(2):
            async with pace.turn() as turn:
                turn.faster()
        limits.append(pace.limit)
        for _ in range(500):
            async with pace.turn() as turn:
                turn.faster()
        return [*limits, pace.limit]

    assert asyncio.run(run()) == [8, 8, 2, 2, 16]


def test_one_request_always_may() -> None:
    async def run() -> int:
        pace = Pace(4)
        for _ in range(10):
            async with pace.turn() as turn:
                turn.slower(0)
        return pace.limit

    assert asyncio.run(run()) == 1


def test_turns_are_waited_for() -> None:
    async def run() -> int:
        pace, running, most = Pace(3), 0, 0

        async def work() -> None:
            nonlocal running, most
            async with pace.turn():
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)  # lets the others in, if they may
                running -= 1

        await asyncio.gather(*(work() for _ in range(20)))
        return most

    assert asyncio.run(run()) == 3


def test_nothing_is_sent_while_the_server_wants_silence() -> None:
    async def run() -> tuple[float, float]:
        pace, clock = Pace(2), asyncio.get_running_loop().time
        async with pace.turn() as turn:
            turn.slower(0.05)
            said = clock()
        async with pace.turn():
            return said, clock()

    said, sent = asyncio.run(run())
    assert sent >= said + 0.05


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_a_time_to_wait_is_read(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_a_time_to_wait_can_be_a_date() -> None:
    found = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1))})
    assert found is not None and 3590 < found <= 3600
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert retry_after({"retry-after": past}) == 0.0
    assert retry_after({}) is None
