"""How memory that is not needed any more is found and treated."""

from __future__ import annotations

import ctypes
import gc

OBJECTS_A_COLLECTION = 20_000
"""Python's own 700 come with 60 pages, and are alive for as long as these are open."""
_M_ARENA_MAX = -8


def keep_one_heap() -> None:
    """Have glibc keep one heap for all threads.

    A heap for each is needless where one lock lets only one of them run, and takes 25 MB more.
    Does nothing where the library is not glibc.

    The size from which blocks are not of the heap is left to glibc, which learns it. Where it was
    held below the 100 KB in which orjson parses a vector, the system made and unmade that memory
    for each vector, wherever the heap's end had no room for it: up to a tenth of the stream's CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_ARENA_MAX, 1)


def collect_seldom() -> None:
    """Have Python look for reference cycles more seldom.

    By itself it goes over the objects of thousands of open pages again and again, in vain: nothing
    that comes with each page is in a cycle (`tests/dataflow/steps/test_finished_pages.py`). It took
    2.5 % of the stream's CPU.
    """
    gc.set_threshold(OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])
