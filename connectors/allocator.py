"""How the C library's allocator treats memory that is free again."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 64 * 1024
"""Well above a vector (9.5 KB) and a record, well below an embedder's answer (300 KB)."""
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
