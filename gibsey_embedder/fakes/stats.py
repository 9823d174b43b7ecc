"""The counters of a fake."""

from __future__ import annotations

import time


class Stats:
    """The counters of one fake; its event loop writes them, any thread reads them.

    Attributes:
        requests: Requests received, including those with a fault.
        items: Texts embedded, rows written or notifications accepted.
        completed: Requests that contained these items.
        faults: Requests with a fault.
        in_flight: Requests in flight.
        max_in_flight: The maximum of `in_flight` since `reset`.
        busy_s: Seconds with at least one request in flight; for an embedder, seconds of computing.
        first_at: Monotonic time of the first request since `reset`, 0 if there was none.
        last_at: Monotonic time when the last request ended.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        self.requests = self.items = self.completed = self.faults = 0
        self.in_flight = self.max_in_flight = 0
        self.busy_s = self.first_at = self.last_at = 0.0
        self._busy_since = self._held_s = 0.0
        self._held = 0
        self.counts_busy = True

    @property
    def slots_s(self) -> float:
        """Seconds for which requests have held slots, summed over all slots, up to now.

        It is 0 if the number of slots is not limited.
        """
        return self._held_s + self._held * time.monotonic()

    def hold(self, began: float) -> None:
        """Count a slot as held from the monotonic time `began`."""
        self._held += 1
        self._held_s -= began

    def release(self, ended: float) -> None:
        """Count a slot as free from the monotonic time `ended`."""
        self._held -= 1
        self._held_s += ended

    def begin(self) -> None:
        """Count a request that begins."""
        self.requests += 1
        self.in_flight += 1
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight
        if self.in_flight == 1:
            self._busy_since = time.monotonic()
            if not self.first_at:
                self.first_at = self._busy_since

    def end(self) -> None:
        """Count a request that ends."""
        self.in_flight -= 1
        if not self.in_flight:
            self.last_at = time.monotonic()
            if self.counts_busy:
                self.busy_s += self.last_at - self._busy_since

    def count_done(self, items: int = 1) -> None:
        """Count a completed request and its items."""
        self.items += items
        self.completed += 1

    def as_dict(self) -> dict[str, object]:
        """Return the counters as JSON values; call this on the loop, whose CPU time is `cpu_s`."""
        return {
            "at": time.monotonic(),
            "requests": self.requests,
            "items": self.items,
            "completed": self.completed,
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
