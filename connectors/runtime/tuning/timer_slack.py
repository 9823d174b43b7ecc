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
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.runtime.tuning.thread_state import keep_thread_state

IDLE_AFTER_S = 5.0
"""A process that has had no page for this long is idle; its slots are polled less often, too."""

_IDLE_NS = 10_000_000  # little beside the pauses of an idle slot
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30


class TimerSlack:
    """Lets the worker threads of an idle process wake up to 10 ms late."""

    def __init__(self) -> None:
        self._worked_at = time.monotonic()
        self._thread = threading.local()

    def start_thread(self) -> None:
        """Prepare the calling thread, a worker of Bytewax."""
        keep_thread_state()  # without it the thread would lose what it remembers
        self.adjust()

    def work_arrived(self) -> None:
        """Note that the process has work, on the worker that does it."""
        self._worked_at = time.monotonic()
        self.adjust()

    def adjust(self) -> None:
        """Set the slack of the calling thread, a worker; calls the kernel only for a change."""
        is_idle = time.monotonic() - self._worked_at > IDLE_AFTER_S
        slack_ns = _IDLE_NS if is_idle else _USUAL_NS
        if slack_ns != getattr(self._thread, "slack_ns", None):
            self._thread.slack_ns = slack_ns
            _set_slack(slack_ns)


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
    has_slack = _prctl(_PR_GET_TIMERSLACK) == _IDLE_NS
    if has_slack:
        _set_slack(_USUAL_NS)
    try:
        yield
    finally:
        if has_slack:
            _set_slack(_IDLE_NS)


def _set_slack(nanoseconds: int) -> None:
    _prctl(_PR_SET_TIMERSLACK, nanoseconds)


def _prctl(option: int, value: int = 0) -> int:
    """Return the result of Linux's call; -1 where the call does not exist."""
    if sys.platform != "linux":
        return -1
    return int(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0))


_USUAL_NS = _prctl(_PR_GET_TIMERSLACK)
"""The slack of the main thread at the start: 50 us by default."""
