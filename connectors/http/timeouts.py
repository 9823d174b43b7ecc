"""The timeouts of all requests in flight, on one timer of the event loop.

A timer for each request costs 2 us more CPU than this one for all (`python -m bench.client`).
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol


class Expiring(Protocol):
    """Something that has a timeout."""

    def time_out(self) -> None:
        """Called once, when its time is up."""


class Timeouts:
    """Ends each request in flight when it expires. Use it on one event loop."""

    def __init__(self) -> None:
        self._expires_at: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def start(self, request: Expiring, expires_at: float) -> None:
        """Start the timeout of a request.

        Args:
            request: The request.
            expires_at: When it expires (monotonic seconds).
        """
        self._expires_at[request] = expires_at
        if expires_at < self._timer_at:
            self._set_timer(expires_at)

    def stop(self, request: Expiring) -> None:
        """Cancel the timeout of a finished request."""
        self._expires_at.pop(request, None)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        delay_s = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)

    def _expire(self) -> None:
        """End the requests that have expired; set the timer for the next one."""
        self._timer, self._timer_at = None, math.inf
        now = time.monotonic()
        for request in [r for r, at in self._expires_at.items() if at <= now]:
            self.stop(request)
            request.time_out()
        if self._expires_at:
            self._set_timer(min(self._expires_at.values()))
