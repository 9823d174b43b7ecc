"""Waiting for what another thread or process does, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(found: Callable[[], T], within_s: float = 10.0) -> T:
    """Ask again and again until the answer is true, and return it.

    Raises:
        AssertionError: It was not within the time.
    """
    give_up = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < give_up, f"still {answer!r} after {within_s} s"
        time.sleep(0.001)
    return answer
