"""What Python keeps of a thread that was not started by it."""

from __future__ import annotations

import ctypes
import threading

_kept = threading.local()


def keep_thread_state() -> None:
    """Let this thread, a worker of Bytewax, keep its state between two calls of Python code.

    By itself CPython makes the state of a foreign thread at each call, stack included, and
    destroys it after: three `mmap` and three `munmap` a page with four workers, a fifth of
    the stream's CPU. It is kept as long as somebody holds the lock a second time, and nobody
    gives this hold back: the state goes with the process.
    """
    if not getattr(_kept, "is_held", False):
        _kept.is_held = True
        ctypes.pythonapi.PyGILState_Ensure()
