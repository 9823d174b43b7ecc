"""A finished page's text and vector go at once: in a cycle they would wait for the collector."""

from __future__ import annotations

import gc

import pytest

from connectors.embedders.batching.jobs import EmbeddingJob
from tests.connectors.embedders.manual_embedder import Line, ManualEmbedder, takes_all
from tests.dataflow.steps.manual_window import Bench, change


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def jobs_in_memory(text: str) -> int:
    return sum(isinstance(o, EmbeddingJob) and o.text == text for o in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
def test_the_window_lets_go_of_a_page_that_it_has_emitted():
    bench = Bench()
    bench.take(change(body="emitted", at=0))
    bench.finished()
    bench.batcher.jobs.clear()
    assert jobs_in_memory("emitted") == 0


@pytest.mark.usefixtures("no_collector")
def test_the_batcher_lets_go_of_a_page_that_it_has_finished():
    line = Line(ManualEmbedder(takes_all))
    try:
        line.submit("finished")
        line.await_done(1)
        line.settle()
        assert jobs_in_memory("finished") == 0
    finally:
        line.event_loop.close()
