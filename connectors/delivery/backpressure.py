"""How a process of a cluster makes its peers read more slowly."""

from __future__ import annotations

import threading
from collections.abc import Callable

from connectors.core.offset_tracker import MAX_OPEN_PAGES

MOST_WAITING = 2 * MAX_OPEN_PAGES
"""Pages that may wait for the embedder at an epoch's end: what this process reads by itself, and as
much again."""

LOOK_S = 0.05


class Backpressure:
    """Keeps an epoch open as long as too many pages wait.

    Each process reads as long as few of its own pages are open, but half of what it reads may go to
    a peer whose embedder is slower, where they would pile up without bound (5,800 of 30,000 in a
    trial with one embedder ten times slower). No process reads beyond its `ReadQuota` before all
    have closed the epoch, so the slowest one sets the throughput.

    Args:
        waiting: How many wait.
        stopping: Ends the waiting.
    """

    def __init__(self, waiting: Callable[[], int], stopping: threading.Event) -> None:
        self._waiting = waiting
        self._stopping = stopping

    def wait(self) -> None:
        """Wait until few enough pages wait; on a worker's thread."""
        while self._waiting() > MOST_WAITING and not self._stopping.wait(LOOK_S):
            pass
