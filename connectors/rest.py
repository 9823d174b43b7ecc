"""How exactly the kernel wakes the workers of a process that has nothing to do.

A worker of Bytewax that waits is woken each millisecond, whatever is to come: most of what an idle
stream costs. The kernel may be told that a thread does not mind to be woken some milliseconds
later, and then wakes it so much more seldom. What comes from another thread wakes it at once.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time

RESTS_AFTER_S = 5.0
"""A process rests that has had no page for so long; its slots look more seldom then, too."""

_SLACK_NS = 10_000_000  # little beside how long a slot sleeps then
_USUAL = 0  # what the thread was started with
_PR_SET_TIMERSLACK = 29


class Rest:
    """Whether a process rests; shared by its worker threads, which must keep their Python state."""

    def __init__(self) -> None:
        self._worked_at = time.monotonic()
        self._thread = threading.local()

    def worked(self) -> None:
        """Note that there is something to do, on the worker that does it."""
        self._worked_at = time.monotonic()
        self.look()

    def look(self) -> None:
        """Have the calling thread, a worker, woken as exactly as is needed now."""
        rests = time.monotonic() - self._worked_at > RESTS_AFTER_S
        if rests != getattr(self._thread, "rests", False):
            self._thread.rests = rests
            _set_slack(_SLACK_NS if rests else _USUAL)


def _set_slack(nanoseconds: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(nanoseconds), 0, 0, 0)
