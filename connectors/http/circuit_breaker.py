"""A circuit breaker for a service that the stream can do without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

FAILURES = 5
GRACE_S = 1.0
"""A shorter failure does not open the circuit: a restarting service ends all requests in flight at
once, and is available again before their second attempt."""


class CircuitBreaker:
    """Opens after consecutive failures, whichever requests they belong to.

        closed ── `failures` failures in a row, the first over `grace_s` ago ──► open
        open ──── a success ───────────────────────────────────────────────────► closed

    Its owner sends nothing while it is open, except probes, whose success closes it. Use it on one
    event loop only.

    Args:
        failures: Consecutive failures that open it.
        grace_s: Seconds from the start of the first failed request until failures count.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._grace_s = grace_s
        self._clock = clock
        self._failures = 0
        self._failing_since: float | None = None
        self._succeeded_at = float("-inf")
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether only probes may be sent."""
        return self._opened.is_set()

    def succeeded(self) -> None:
        """Record that the service responded: the circuit closes."""
        self._succeeded_at = self._clock()
        if self._failing_since is not None:
            self._failing_since = None
            self._failures = 0
            self._opened.clear()

    def failed(self, since: float) -> None:
        """Record that a request failed.

        Args:
            since: When it was sent, by the breaker's clock. A request that was sent before the
                latest success does not count: of two replicas, one may have died.
        """
        if since < self._succeeded_at:
            return
        if self._failing_since is None:
            self._failing_since = since
        if self._clock() - self._failing_since < self._grace_s:
            return
        self._failures += 1
        if self._failures >= self._limit:
            self._opened.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake up when the circuit opens."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._opened.wait(), seconds)
