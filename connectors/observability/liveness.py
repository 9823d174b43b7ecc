"""Whether the worker threads still turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STUCK_AFTER_S = 60.0
"""A worker that has not asked its source for so long, and waits for nothing, is stuck."""

LONGEST_REST_S = 600.0
"""How long a worker may wait for the other processes of a cluster before its silence counts."""


class Liveness:
    """When each worker thread last asked for input.

    Args:
        clock: Monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[int, float] = {}

    def beat(self) -> None:
        """Note that this thread turns."""
        self._beats[threading.get_ident()] = self._clock()

    def rest(self) -> None:
        """Note that this thread has closed an epoch of a cluster.

        Bytewax does not ask it again before the other processes have, however long they take.
        """
        self._beats[threading.get_ident()] = self._clock() + LONGEST_REST_S

    @property
    def workers(self) -> int:
        """Threads that have beaten."""
        return len(self._beats)

    def oldest_s(self) -> float:
        """Seconds since the beat of the thread that has been silent longest; 0 before any."""
        beats = list(self._beats.values())
        return max(0.0, self._clock() - min(beats)) if beats else 0.0
