"""The places of a service that works on a few requests at once."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable

from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.stats import Stats


class Slots:
    """A few requests are worked on at once, the others wait in their order.

    A request has its slot for exactly the time that it should take: what an inexact timer, or a
    busy machine, adds to one is taken off the next. So a service of ten slots and 40 ms a request
    can do 250 requests a second, and one that does fewer had none to do.

    Args:
        number: How many.
        stats: Counts the time in which they are taken.
    """

    def __init__(self, number: int, stats: Stats) -> None:
        self._gate = asyncio.Semaphore(number)
        self._free_at = [0.0] * number
        self._stats = stats

    async def work(self, delay_s: float, answer: Callable[[], Awaitable[Reply]]) -> Reply:
        """Reply as soon as a slot is free, after a delay and what the answer itself takes."""
        received = time.monotonic()
        async with self._gate:
            due = max(received, heapq.heappop(self._free_at))
            self._stats.hold(due)
            try:
                due += delay_s
                await _sleep_until(due)
                answered = await answer()
                due += answered.takes_s
                await _sleep_until(due)
                return answered
            except BaseException:
                due = min(due, time.monotonic())  # it has gone away in between
                raise
            finally:
                self._stats.release(due)
                heapq.heappush(self._free_at, due)


async def _sleep_until(moment: float) -> None:
    if (wait_s := moment - time.monotonic()) > 0:
        await asyncio.sleep(wait_s)
