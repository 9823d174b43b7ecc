"""The state of the stream before and after a fault."""

from __future__ import annotations

from typing import Any

from tests.eventually import eventually
from tests.flow.stream import DONE_S, Stream
from tests.flow.worker import Worker


def process_first_pages(
    stream: Stream, count: int = 100, *, store: bool = True, code: str = "", **settings: Any
) -> Worker:
    """Start a worker, and wait until it has processed the first pages."""
    worker = stream.start(store=store, code=code, **settings)
    stream.feed(count)
    stream.wait_complete()
    return worker


def assert_recovered(stream: Stream, worker: Worker, service: str, *, repeats: int = 1) -> None:
    """Check that the stream has recovered from a fault without a trace.

    Args:
        stream: The stream.
        worker: The worker, which must still run.
        service: The service that it waited for.
        repeats: How often a row or a notification may have been repeated.
    """
    stream.wait_complete()
    worker.wait_for(rf"answers again +service={service}")
    stream.feed(20, start=5000)
    stream.wait_complete()
    eventually(lambda: not worker.stalled(), DONE_S)
    assert not stream.dead_letters()
    assert max(stream.rag.counts.values()) <= 1 + repeats
    stream.wait_committed()
    worker.stop()
