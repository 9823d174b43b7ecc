"""Pages a second against workers, processes and embedders, where the embedders are the limit."""

from __future__ import annotations

from collections.abc import Callable

from bench.program import Processes, Program
from bench.rig import EMBEDDER_SLOWEST, Rig, reached

EMBEDDERS = 1, 2, 4, 8
SHARES = 0.15, 0.85
WINDOW_PAGES = 32


def ideal_pages_per_s(embedders: int) -> float:
    """What so many embedders manage with full windows."""
    window_s = EMBEDDER_SLOWEST.request_s + WINDOW_PAGES * EMBEDDER_SLOWEST.text_s
    return embedders * WINDOW_PAGES / window_s


def pages_per_s(pages: int, embedders: int, start: Callable[[Rig], Program | Processes]) -> float:
    """The speed over the steady part of a backlog, as the RAG service sees it."""
    with Rig(EMBEDDER_SLOWEST, embedders) as rig:
        rig.feed(pages)
        with start(rig) as program:
            (began, first), (ended, last) = (
                reached(rig.rag, share * pages, "items", program) for share in SHARES
            )
            rig.wait_until_delivered(pages, program)
    return (last - first) / (ended - began)
