"""The slots of a service that serves a limited number of requests at once."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable

from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.stats import Stats


class Slots:
    """Serves up to `number` requests at once; the others wait in their order.

    A request holds its slot for exactly its nominal duration. A late timer or a busy machine
    shortens the next request by the delay, so that ten slots with 40 ms per request always have a
    capacity of 250 requests per second.

    Args:
        number: The number of slots.
        stats: Counts the seconds for which slots are held.
    """

    def __init__(self, number: int, stats: Stats) -> None:
        self._gate = asyncio.Semaphore(number)
        self._free_at = [0.0] * number
        self._stats = stats

    async def serve(self, delay_s: float, reply_to: Callable[[], Awaitable[Reply]]) -> Reply:
        """Wait for a slot, hold it for the delay and for the reply's own time, then return."""
        received = time.monotonic()
        async with self._gate:
            due = max(received, heapq.heappop(self._free_at))
            self._stats.hold(due)
            try:
                due += delay_s
                await _sleep_until(due)
                reply = await reply_to()
                due += reply.takes_s
                await _sleep_until(due)
                return reply
            except BaseException:
                due = min(due, time.monotonic())  # a client that leaves early frees its slot
                raise
            finally:
                self._stats.release(due)
                heapq.heappush(self._free_at, due)


async def _sleep_until(moment: float) -> None:
    if (wait_s := moment - time.monotonic()) > 0:
        await asyncio.sleep(wait_s)
