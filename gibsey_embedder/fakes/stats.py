"""What a stand-in counts."""

from __future__ import annotations

import time


class Stats:
    """Counts of one stand-in; written on its loop, read from anywhere.

    Attributes:
        requests: Requests begun, faults included.
        items: Things carried out: texts embedded, rows written, notifications taken.
        carried_out: Requests of those things.
        faults: Requests that met a fault.
        in_flight: Requests being served.
        max_in_flight: The most at once since `reset`.
        busy_s: Seconds in which at least one request was being served; an embedder counts its
            computing instead.
        first_at: Monotonic time of the first request since `reset`, 0 if none.
        last_at: Monotonic time at which the last one ended.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts the counts anew."""
        self.requests = self.items = self.carried_out = self.faults = 0
        self.in_flight = self.max_in_flight = 0
        self.busy_s = self.first_at = self.last_at = 0.0
        self._busy_since = self._held_s = 0.0
        self._held = 0
        self.counts_busy = True

    @property
    def slots_s(self) -> float:
        """Seconds that requests have held one of the service's slots, summed, until now.

        0 where the service works on any number at once.
        """
        return self._held_s + self._held * time.monotonic()

    def hold(self, began: float) -> None:
        """A request holds a slot from a moment on."""
        self._held += 1
        self._held_s -= began

    def release(self, ended: float) -> None:
        """A request has held a slot until a moment."""
        self._held -= 1
        self._held_s += ended

    def begin(self) -> None:
        """A request begins."""
        self.requests += 1
        self.in_flight += 1
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight
        if self.in_flight == 1:
            self._busy_since = time.monotonic()
            if not self.first_at:
                self.first_at = self._busy_since

    def end(self) -> None:
        """A request ends."""
        self.in_flight -= 1
        if not self.in_flight:
            self.last_at = time.monotonic()
            if self.counts_busy:
                self.busy_s += self.last_at - self._busy_since

    def carry_out(self, items: int = 1) -> None:
        """A request has done what it asked for."""
        self.items += items
        self.carried_out += 1

    def as_dict(self) -> dict[str, object]:
        """The counts as JSON values; `cpu_s` is the calling thread's, so call it on the loop."""
        return {
            "at": time.monotonic(),
            "requests": self.requests,
            "items": self.items,
            "carried_out": self.carried_out,
            "faults": self.faults,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "busy_s": self.busy_s,
            "slots_s": self.slots_s,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "cpu_s": time.thread_time(),
            "process_cpu_s": time.process_time(),
        }
