"""What must be so before a fault, and after it."""

from __future__ import annotations

from typing import Any

from tests.eventually import eventually
from tests.flow.stream import DONE_S, Stream
from tests.flow.worker import Worker


def feed_through(
    stream: Stream, count: int = 100, *, store: bool = True, code: str = "", **settings: Any
) -> Worker:
    """Start a worker and see the first pages through it."""
    worker = stream.start(store=store, code=code, **settings)
    stream.feed(count)
    stream.wait_complete()
    return worker


def assert_healed(stream: Stream, worker: Worker, service: str, *, repeats: int = 1) -> None:
    """Check that all is as if the fault had never been.

    Args:
        stream: The stream.
        worker: What must have gone on without a restart.
        service: What it waited for.
        repeats: How many more times than once a row may have been written, or notified.
    """
    stream.wait_complete()
    worker.wait_for(rf"answers again +service={service}")
    stream.feed(20, start=5000)
    stream.wait_complete()
    eventually(lambda: not worker.stalled(), DONE_S)
    assert not stream.letters()
    assert max(stream.rag.counts.values()) <= 1 + repeats
    stream.wait_committed()
    worker.stop()
