"""How exactly the kernel wakes the workers of a process.

A worker of Bytewax that waits is woken each millisecond, whatever is to come: most of what an idle
stream costs, and a thirtieth of what a busy one of four workers does. The kernel may be told that
a thread does not mind to be woken some milliseconds later, and then wakes it so much more seldom.
What comes from another thread wakes it at once.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RESTS_AFTER_S = 5.0
"""A process rests that has had no page for so long; its slots look more seldom then, too."""

CROWD_PAGES = 512
"""With so many open, each waits for far longer than the slack."""

_REST_NS = 10_000_000  # little beside how long a slot sleeps at rest
_CROWD_NS = 30_000_000  # beside the third of a second that so many wait at six thousand a second
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30


class TimerSlack:
    """Gives a process's workers slack while nothing waits for them, or much does.

    Shared by its worker threads, which must keep their Python state.

    Args:
        open_pages: Tells how many pages are open in the process.
    """

    def __init__(self, open_pages: Callable[[], int] = lambda: 0) -> None:
        self._open_pages = open_pages
        self._worked_at = time.monotonic()
        self._thread = threading.local()

    def worked(self) -> None:
        """Note that there is something to do, on the worker that does it."""
        self._worked_at = time.monotonic()
        self.look()

    def look(self) -> None:
        """Have the calling thread, a worker, woken as exactly as is needed now."""
        slack_ns = self._slack_ns()
        if slack_ns != getattr(self._thread, "slack_ns", None):
            self._thread.slack_ns = slack_ns
            _set_slack(slack_ns)

    def _slack_ns(self) -> int:
        if self._open_pages() > CROWD_PAGES:
            return _CROWD_NS
        return _REST_NS if time.monotonic() - self._worked_at > RESTS_AFTER_S else _USUAL_NS


def give_slack() -> None:
    """Have the calling thread woken up to 10 ms late, and those that it starts, until they `look`.

    For the main thread, where workers have threads of their own: it looks each millisecond
    whether they have ended or a signal came, and wants the interpreter's lock for that.
    """
    _set_slack(_REST_NS)


@contextmanager
def exact_threads() -> Iterator[None]:
    """Have threads that are started within woken exactly, whatever the calling one is.

    A thread inherits for good what the one that starts it has at that moment.
    """
    slack_ns = _prctl(_PR_GET_TIMERSLACK)
    has_slack = slack_ns in (_REST_NS, _CROWD_NS)
    if has_slack:
        _set_slack(_USUAL_NS)
    try:
        yield
    finally:
        if has_slack:
            _set_slack(slack_ns)


def _set_slack(nanoseconds: int) -> None:
    _prctl(_PR_SET_TIMERSLACK, nanoseconds)


def _prctl(option: int, value: int = 0) -> int:
    """What Linux returns, -1 also where there is no such call."""
    if sys.platform != "linux":
        return -1
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0))


_USUAL_NS = _prctl(_PR_GET_TIMERSLACK)
"""What the main thread is started with; 50 us, where nobody said otherwise."""
