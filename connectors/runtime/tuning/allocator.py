"""How glibc and Python manage unused memory."""

from __future__ import annotations

import ctypes
import gc

OBJECTS_PER_COLLECTION = 20_000
"""Python's default is 700, which 60 pages create and keep for as long as they are open."""
_M_ARENA_MAX = -8


def keep_one_heap() -> None:
    """Make glibc use one heap for all threads; does nothing with another C library.

    It saves 25 MB (`make bench ARGS="--only memory"`): Python's lock runs one thread at a time, so
    a heap for each thread is useless. glibc's mmap threshold stays unchanged: a threshold below
    orjson's 100 KB buffers costs 10 % of the CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_ARENA_MAX, 1)


def collect_seldom() -> None:
    """Run Python's garbage collector less often; it saves 2.5 % of CPU (`--only free`).

    The collector would scan the objects of thousands of open pages again and again, and find
    nothing: no object of a page is in a cycle (`tests/dataflow/steps/test_finished_pages.py`).
    """
    gc.set_threshold(OBJECTS_PER_COLLECTION, *gc.get_threshold()[1:])
