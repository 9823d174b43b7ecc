"""A circuit breaker before a service that the stream can do without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from purgatory import SyncCircuitBreakerFactory

FAILURES = 5
GRACE_S = 1.0
"""Trouble that is younger opens nothing: a service that restarts cuts all requests in flight at
once, and is back before their second try."""


class CircuitBreaker:
    """Opens after consecutive failures, whichever request they belong to; used on one loop only.

    Counting and state are purgatory's. When to probe is not: its clock is the wall's, which may
    jump, and it lets every request through at once then. So here nothing passes an open circuit;
    who owns it probes when it likes, and `succeeded` closes it.

    Args:
        name: The service.
        failures: Consecutive failures that open it.
        grace_s: Seconds for which trouble must have lasted before failures count.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        name: str,
        failures: int = FAILURES,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # a pause of minus infinity: purgatory is ready for a probe whatever the wall clock says
        factory = SyncCircuitBreakerFactory(default_threshold=failures, default_ttl=float("-inf"))
        self._breaker = factory.get_breaker(name)
        self._grace_s = grace_s
        self._clock = clock
        self._trouble_since: float | None = None
        self._answered_at = float("-inf")
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be sent."""
        return self._opened.is_set()

    def succeeded(self) -> None:
        """Note that the service answered; costs next to nothing while all is well."""
        self._answered_at = self._clock()
        if self._trouble_since is None:
            return
        self._trouble_since = None
        with self._breaker:
            pass
        self._opened.clear()

    def failed(self, since: float) -> None:
        """Note that a request failed.

        Args:
            since: When it was sent, by the circuit's clock: what hangs for seconds has been in
                trouble for seconds. Was another answered after that, it says nothing any more:
                of two replicas, one may have died.
        """
        if since < self._answered_at:
            return
        if self._trouble_since is None:
            self._trouble_since = since
        if self.is_open or self._clock() - self._trouble_since < self._grace_s:
            return
        with suppress(_RequestError), self._breaker:
            raise _RequestError
        if self._breaker.context.state == "opened":
            self._opened.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but wake when the circuit opens."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._opened.wait(), seconds)


class _RequestError(Exception):
    """What purgatory is told of a failure."""
