"""Time limits of all that is in flight, by one timer of the event loop.

A timer for each costs the loop 3 us: to be made, set, stopped, and closed in a later turn.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol


class Expiring(Protocol):
    """Something that may take only so long."""

    def time_out(self) -> None:
        """Called when its time is up, once."""


class Timeouts:
    """When what is in flight has to be over; used on one event loop."""

    def __init__(self) -> None:
        self._ends: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def begin(self, one: Expiring, ends: float) -> None:
        """Limit it.

        Args:
            one: What is begun.
            ends: When its time is up (monotonic seconds).
        """
        self._ends[one] = ends
        if ends < self._rings_at:
            self._set(ends)

    def end(self, one: Expiring) -> None:
        """Note that it is over."""
        self._ends.pop(one, None)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        left_s = max(0.0, at - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(left_s, self._ring)

    def _ring(self) -> None:
        """End what is over, and set the timer for the one of the others that ends first."""
        self._timer, self._rings_at = None, math.inf
        now = time.monotonic()
        for one in [one for one, ends in self._ends.items() if ends <= now]:
            self.end(one)
            one.time_out()
        if self._ends:
            self._set(min(self._ends.values()))
