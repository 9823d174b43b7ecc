"""A finished page is freed at once. In a reference cycle it would wait for the collector."""

from __future__ import annotations

import gc

import pytest

from connectors.embedders.batching.jobs import EmbeddingJob
from tests.connectors.embedders.manual_embedder import BatcherSetup, ManualEmbedder, accept_all
from tests.dataflow.steps.manual_window import ManualWindow, change


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def jobs_in_memory(text: str) -> int:
    return sum(isinstance(o, EmbeddingJob) and o.text == text for o in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
def test_the_window_keeps_no_reference_to_an_emitted_page():
    window = ManualWindow()
    window.take(change(body="emitted", at=0))
    window.finished()
    window.batcher.jobs.clear()
    assert jobs_in_memory("emitted") == 0


@pytest.mark.usefixtures("no_collector")
def test_the_batcher_keeps_no_reference_to_a_finished_page():
    setup = BatcherSetup(ManualEmbedder(accept_all))
    try:
        setup.submit("finished")
        setup.await_done(1)
        setup.settle()
        assert jobs_in_memory("finished") == 0
    finally:
        setup.event_loop.close()
