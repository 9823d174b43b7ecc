"""How exactly the kernel wakes the worker threads of a process.

A worker of Bytewax that waits wakes each millisecond, whatever it waits for: most of the cost of an
idle stream. Linux may delay a thread's wake-up by its timer slack, and so wakes it less often. An
item from another thread still wakes the worker at once.

With it an idle worker costs 0.7 % of a core at `-w 1` and 1.2 % at `-w 4`, an empty flow of Bytewax
2.0 and 5.4 % (`make bench ARGS="--only idle"`).
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from connectors.runtime.tuning.thread_state import keep_thread_state

IDLE_AFTER_S = 5.0
"""A process that has had no page for this long is idle; its slots are polled less often, too."""

MANY_PAGES = 512
"""With this many open pages, each waits for far longer than the slack. The slack of a busy process
saves 11 % of CPU at `-w 4` (`make bench ARGS="--only free"`)."""

_IDLE_NS = 10_000_000  # little beside the pauses of an idle slot
_BUSY_NS = 30_000_000  # little beside the 0.3 s that a page waits at 6,000 pages a second
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30


class TimerSlack:
    """Lets the worker threads of a process wake late while it is idle, or has many open pages.

    Args:
        open_pages: Returns how many pages are open in the process.
    """

    def __init__(self, open_pages: Callable[[], int] = lambda: 0) -> None:
        self._open_pages = open_pages
        self._worked_at = time.monotonic()
        self._thread = threading.local()

    def start_thread(self) -> None:
        """Prepare the calling thread, a worker of Bytewax."""
        keep_thread_state()  # without it, `self._thread` would be empty at each call
        self.adjust()

    def work_arrived(self) -> None:
        """Note that the process has work, on the worker that does it."""
        self._worked_at = time.monotonic()
        self.adjust()

    def adjust(self) -> None:
        """Set the slack of the calling thread, a worker; calls the kernel only for a change."""
        slack_ns = self._slack_ns()
        if slack_ns != getattr(self._thread, "slack_ns", None):
            self._thread.slack_ns = slack_ns
            _set_slack(slack_ns)

    def _slack_ns(self) -> int:
        if self._open_pages() > MANY_PAGES:
            return _BUSY_NS
        return _IDLE_NS if time.monotonic() - self._worked_at > IDLE_AFTER_S else _USUAL_NS


def give_slack() -> None:
    """Let the calling thread, and threads that it starts, wake up to 10 ms late.

    For the main thread of a process with worker threads: each millisecond it checks for their end
    and for signals, and needs the interpreter's lock for that. It saves 1.5 % of CPU.
    """
    _set_slack(_IDLE_NS)


@contextmanager
def exact_threads() -> Iterator[None]:
    """Let threads that start within wake exactly, although the calling thread may have slack.

    A thread inherits the slack of the thread that starts it, and keeps it.
    """
    before_ns = _prctl(_PR_GET_TIMERSLACK)
    has_slack = before_ns in (_IDLE_NS, _BUSY_NS)
    if has_slack:
        _set_slack(_USUAL_NS)
    try:
        yield
    finally:
        if has_slack:
            _set_slack(before_ns)


def _set_slack(nanoseconds: int) -> None:
    _prctl(_PR_SET_TIMERSLACK, nanoseconds)


def _prctl(option: int, value: int = 0) -> int:
    """Return the result of Linux's call; -1 where the call does not exist."""
    if sys.platform != "linux":
        return -1
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0))


_USUAL_NS = _prctl(_PR_GET_TIMERSLACK)
"""The slack of the main thread at the start: 50 us by default."""
