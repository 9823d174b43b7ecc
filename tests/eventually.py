"""Waits for a condition that another thread or process makes true."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(found: Callable[[], T], within_s: float = 10.0) -> T:
    """Poll a function until its result is true, and return the result.

    Raises:
        AssertionError: The result is still false at the timeout.
    """
    give_up = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < give_up, f"still {answer!r} after {within_s} s"
        time.sleep(0.001)
    return answer
