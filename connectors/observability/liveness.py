"""Whether the worker threads still poll their sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STUCK_AFTER_S = 60.0
"""A worker that has not polled for this long is stuck, unless it waits for a service."""

LONGEST_CLUSTER_WAIT_S = 600.0
"""For how long a worker may wait for the other processes of its cluster."""


class Liveness:
    """When each worker thread last polled its source.

    Args:
        clock: Monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._polled_at: dict[int, float] = {}

    def polled(self) -> None:
        """Record that this thread polls."""
        self._polled_at[threading.get_ident()] = self._clock()

    def waits_for_cluster(self) -> None:
        """Record that this thread has closed an epoch of a cluster.

        Bytewax does not poll its source again until all other processes have closed theirs.
        """
        self._polled_at[threading.get_ident()] = self._clock() + LONGEST_CLUSTER_WAIT_S

    @property
    def workers(self) -> int:
        """The number of threads that have polled."""
        return len(self._polled_at)

    def longest_silence_s(self) -> float:
        """Return the seconds since the longest silent thread polled; 0 before any poll."""
        polled_at = list(self._polled_at.values())
        return max(0.0, self._clock() - min(polled_at)) if polled_at else 0.0
