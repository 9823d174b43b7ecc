"""How memory that is not needed any more is found and treated."""

from __future__ import annotations

import ctypes
import gc

LARGE_BYTES = 64 * 1024
"""Well above a vector (9.5 KB) and a record, well below an embedder's answer (300 KB)."""
OBJECTS_A_COLLECTION = 20_000
"""Python's own 700 come with 60 pages, and are alive for as long as these are open."""
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_memory_flat() -> None:
    """Have glibc give blocks of 64 KB and more back as soon as they are free, and keep one heap.

    By itself it raises that limit to the largest block it has seen freed, here an embedder's
    answer. From then on answers and vectors share one heap, which becomes full of holes: 330 MB
    resident over a backlog instead of 130. A heap for each thread is needless where one lock lets
    only one of them run, and takes 5 MB more. Does nothing where the library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_ARENA_MAX, 1)


def collect_seldom() -> None:
    """Have Python look for reference cycles more seldom.

    By itself it goes over the objects of thousands of open pages again and again, in vain: nothing
    that comes with each page is in a cycle (`tests/dataflow/test_finished_pages.py`). It took 2.5 %
    of the stream's CPU.
    """
    gc.set_threshold(OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])
