"""How the batcher forms windows."""

from __future__ import annotations

import time

import pytest

from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.batcher import OUTPUTS_POLL_S
from connectors.embedders.endpoint import EndpointStatus
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually


def test_a_single_page_is_sent_at_once(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    (job,) = setup.submit("a")
    embedder.request(0).respond()
    setup.await_done(1)
    assert (job.vector, job.refused, job.model, job.sent) == (VECTOR, None, "m", True)
    assert embedder.windows == [["a"]]


def test_the_next_window_fills_while_two_windows_are_in_flight(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    for text in "abcde":
        setup.submit(text)
    embedder.request(1)
    setup.settle()
    assert embedder.windows == [["a"], ["b"]]
    assert setup.batcher.queued_texts == 3
    (endpoint,) = setup.batcher.endpoints()
    assert endpoint == EndpointStatus("e", in_flight=2, concurrency=2, failures=0)
    embedder.request(0).respond()
    assert embedder.request(2).texts == ["c", "d", "e"]


def test_an_endpoint_receives_as_many_concurrent_requests_as_configured(start):
    embedder = ManualEmbedder()
    setup = start(embedder, concurrency=4)
    for text in "abcdefg":
        setup.submit(text)
    embedder.request(3)
    setup.settle()
    assert embedder.windows == [["a"], ["b"], ["c"], ["d"]]
    assert setup.batcher.endpoints() == [EndpointStatus("e", 4, concurrency=4, failures=0)]
    embedder.request(2).respond()  # in any order
    assert embedder.request(4).texts == ["e", "f", "g"]


def test_pages_of_several_submits_share_a_window(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a")
    setup.submit("b")
    setup.submit("c", "d")
    setup.submit("e")
    embedder.request(0).respond()
    assert embedder.request(2).texts == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("limits", "max_texts", "windows"),
    [
        (WindowLimits(pages=2), 512, [["aaa", "bbb"], ["ccc", "ddd"], ["eee"]]),
        (WindowLimits(), 2, [["aaa", "bbb"], ["ccc", "ddd"], ["eee"]]),
        (WindowLimits(chars=9), 512, [["aaa", "bbb", "ccc"], ["ddd", "eee"]]),
        (WindowLimits(chars=8), 512, [["aaa", "bbb"], ["ccc", "ddd"], ["eee"]]),
        (WindowLimits(chars=1), 512, [["aaa"], ["bbb"], ["ccc"], ["ddd"], ["eee"]]),
    ],
)
def test_a_window_ends_at_the_limit_of_pages_or_characters(start, limits, max_texts, windows):
    embedder = ManualEmbedder(max_texts=max_texts)
    setup = start(embedder, limits=limits)
    setup.submit("aaa", "bbb", "ccc", "ddd", "eee")
    for number in range(len(windows)):
        embedder.request(number).respond()
    setup.await_done(5)
    assert embedder.windows == windows


def test_a_window_takes_no_longer_than_the_target(
    start,
):
    embedder = ManualEmbedder(accept_all)
    embedder.delay_s = 0.02
    setup = start(embedder, target_s=0.2)
    setup.submit("first")
    setup.await_done(1)
    setup.submit(*["texts"] * 40)
    setup.await_done(41)
    sizes = [len(window) for window in embedder.windows[1:]]
    assert sum(sizes) == 40
    assert 2 <= max(sizes) <= 11  # ten texts of 20 ms each
    assert len(sizes) <= 15


def test_no_window_is_sent_while_the_outputs_are_busy(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a")
    first = embedder.request(0)
    setup.outputs_busy = True
    first.respond()
    setup.await_done(1)
    setup.submit("b", "c")
    setup.settle()
    assert embedder.windows == [["a"]]
    assert setup.batcher.queued_texts == 2
    setup.outputs_busy = False
    assert embedder.request(1).texts == ["b", "c"]


def test_a_loop_that_is_late_for_its_timer_sends_the_next_window_all_the_same(start, monkeypatch):
    """For a time that has come, uvloop returns a handle without `when()`."""
    embedder = ManualEmbedder()
    setup = start(embedder)
    call_at = setup.event_loop.call_at

    def call_at_late(when, function):
        time.sleep(OUTPUTS_POLL_S * 1.5)
        return call_at(when, function)

    monkeypatch.setattr(setup.event_loop, "call_at", call_at_late)
    setup.outputs_busy = True
    for text in "abc":
        setup.submit(text)
    setup.settle()
    setup.outputs_busy = False
    embedder.request(0).respond()
    assert not setup.crashes


def test_a_window_waits_for_more_pages_only_if_the_limits_allow_it(start):
    embedder = ManualEmbedder()
    setup = start(embedder, limits=WindowLimits(pages=3, wait_s=0.05))
    setup.submit("a")
    setup.submit("b")
    assert embedder.request(0).texts == ["a", "b"]
    setup.submit("c", "d", "e", "f")
    assert embedder.request(1).texts == ["c", "d", "e"]  # a full window does not wait


def test_pages_are_finished_in_the_order_in_which_they_were_submitted(start):
    setup = start(ManualEmbedder(accept_all), limits=WindowLimits(pages=4))
    texts = [f"{n}" for n in range(200)]
    for text in texts:
        setup.submit(text)
    setup.await_done(200)
    assert setup.done == texts


def test_the_least_loaded_endpoint_gets_the_next_window(start):
    first, second = ManualEmbedder(name="1"), ManualEmbedder(name="2")
    setup = start(first, second)
    for text in "abcd":
        setup.submit(text)
    eventually(lambda: len(first.requests) == len(second.requests) == 2)
    setup.submit("e")
    second.request(1).respond()
    assert second.request(2).texts == ["e"]
    assert [e.in_flight for e in setup.batcher.endpoints()] == [2, 2]


def test_a_cached_text_needs_no_request(start):
    embedder = ManualEmbedder(accept_all)
    setup = start(embedder, cache_pages=10)
    setup.submit("a")
    setup.await_done(1)
    (again,) = setup.submit("a")
    setup.await_done(2)
    assert (again.vector, again.sent, again.model) == (VECTOR, True, "m")
    assert embedder.windows == [["a"]]


def test_a_dropped_job_is_never_sent(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a")
    setup.submit("b")
    dropped, _ = setup.submit("c", "d")
    dropped.dropped = True
    embedder.request(0).respond()
    assert embedder.request(2).texts == ["d"]
    assert not dropped.sent


def test_dropped_jobs_do_not_accumulate_while_the_embedder_is_unavailable(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a", "b")
    setup.submit("c")
    embedder.request(1)
    before = setup.submit("hot")[0]
    for _ in range(20_000):
        before.dropped = True
        (before,) = setup.submit("hot")
    setup.settle()
    assert setup.batcher.queued_texts < 5000
    embedder.request(0).respond()
    assert embedder.request(2).texts == ["hot"]


def test_gauges_return_to_zero(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a")
    embedder.request(0)
    gauge = setup.metrics.embed_in_flight.labels("0")
    eventually(lambda: gauge._value.get() == 1)
    embedder.request(0).respond()
    eventually(lambda: gauge._value.get() == 0)
