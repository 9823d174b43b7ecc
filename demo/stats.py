"""What a stand-in counts."""

from __future__ import annotations

import time


class Stats:
    """Counts of one stand-in; written on its loop, read from anywhere.

    Attributes:
        requests: Requests begun, faults included.
        items: Things carried out: texts embedded, rows written, notifications taken.
        faults: Requests that met a fault.
        in_flight: Requests being served.
        max_in_flight: The most at once since `reset`.
        busy_s: Seconds in which at least one request was being served; an embedder counts its
            computing instead.
        slots_s: Seconds that requests have held one of the service's slots, summed; where the
            service works on any number at once, 0.
        first_at: Monotonic time of the first request since `reset`, 0 if none.
        last_at: Monotonic time at which the last one ended.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts the counts anew."""
        self.requests = self.items = self.faults = self.in_flight = self.max_in_flight = 0
        self.busy_s = self.slots_s = self.first_at = self.last_at = 0.0
        self._busy_since = 0.0
        self._slots, self._slots_at = 0, time.monotonic()
        self.counts_busy = True

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

    def slot(self, change: int) -> None:
        """Note that so many more (or, below 0, fewer) slots are taken from now on."""
        now = time.monotonic()
        self.slots_s += self._slots * (now - self._slots_at)
        self._slots, self._slots_at = self._slots + change, now

    def as_dict(self) -> dict[str, object]:
        """The counts as JSON values; `cpu_s` is the calling thread's, so call it on the loop."""
        self.slot(0)
        return {
            "requests": self.requests,
            "items": self.items,
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
