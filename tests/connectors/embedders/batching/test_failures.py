"""How the batcher handles failed requests."""

from __future__ import annotations

import math
import time

import pytest
from structlog.testing import capture_logs

from connectors.core.errors import ConfigurationError, TransientError
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.endpoint import EndpointStatus
from tests.connectors.embedders.behaviours import UNAVAILABLE
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually


def test_a_failed_window_is_sent_again_and_the_stall_names_the_reason(start):
    embedder = ManualEmbedder()
    setup = start(embedder, min_stall_s=0.0)
    setup.submit("a", "b", "c")
    embedder.request(0).fail(UNAVAILABLE)
    (stall,) = eventually(setup.stalls.current)
    assert (stall.service, stall.reason) == ("embedder", "it is unavailable")
    embedder.request(1).fail(UNAVAILABLE)
    embedder.request(2).respond()
    embedder.request(3).respond()
    setup.await_done(3)
    assert setup.done == ["a", "b", "c"]
    eventually(lambda: not setup.stalls.current())


def test_after_a_failure_a_single_text_is_sent_as_a_trial(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a", "b", "c")
    embedder.request(0).fail(UNAVAILABLE)
    assert embedder.request(1).texts == ["a"]
    setup.settle()
    assert len(embedder.requests) == 2
    embedder.request(1).respond()
    assert embedder.request(2).texts == ["b", "c"]


def test_requests_that_fail_together_count_as_one_failure(start):
    """Sixteen failures in a row would pause a server that restarts for five seconds."""
    embedder = ManualEmbedder()
    setup = start(embedder, concurrency=16)
    for number in range(16):
        setup.submit(f"{number}")
    embedder.request(15)
    for request in list(embedder.requests):
        request.fail(UNAVAILABLE)
    trial = embedder.request(16)
    assert setup.batcher.endpoints()[0].failures == 1
    trial.fail(UNAVAILABLE)
    eventually(lambda: setup.batcher.endpoints()[0].failures == 2)


def test_an_isolated_text_is_sent_while_no_other_is_in_flight(start):
    """A page that kills the model fails the other requests in flight too."""
    embedder = ManualEmbedder()
    setup = start(embedder, limits=WindowLimits(pages=1), concurrency=3)
    killed = TransientError("EOF", status=500)
    setup.submit("killer", "a", "b")
    embedder.request(2)

    def end(failing: int, responding: int) -> None:
        embedder.request(failing).fail(killed)
        setup.settle()
        embedder.request(responding).respond()

    end(0, 1)
    end(3, 2)
    embedder.request(4)
    setup.submit("c")
    setup.submit("d")
    embedder.request(6)
    end(4, 5)
    time.sleep(0.05)  # longer than the longest pause
    assert embedder.windows[3:] == [["killer"], ["killer"], ["c"], ["d"]]
    embedder.request(6).respond()
    trial = embedder.request(7)
    setup.submit("e")
    setup.settle()
    assert embedder.windows[7:] == [["killer"]]
    trial.respond()
    assert embedder.request(8).texts == ["e"]


def test_windows_that_wait_for_a_check_fail_with_it(start):
    """A check for each of them would take one timeout each if the server hangs."""
    embedder = ManualEmbedder(accept_all)
    limits = WindowLimits(pages=1)
    setup = start(embedder, detect_lowercase=True, limits=limits, concurrency=8)
    embedder.model_info = [TransientError("it hangs", retry_after_s=300.0)]
    embedder.check_s = 0.05
    setup.primary.endpoints[0].checked_at = -math.inf
    setup.submit(*"abcdefgh")
    eventually(lambda: setup.batcher.endpoints()[0].failures)
    setup.settle()
    assert setup.batcher.endpoints() == [EndpointStatus("e", 0, concurrency=8, failures=1)]
    assert setup.batcher.queued_texts == 8
    assert embedder.checks == 2  # one of them at the start


def test_the_failure_of_one_endpoint_of_several_is_logged_once(start):
    dead, working = ManualEmbedder(name="dead"), ManualEmbedder(name="working")
    setup = start(dead, working, limits=WindowLimits(pages=1), concurrency=4)
    with capture_logs() as lines:
        setup.submit(*"abcdefgh")
        dead.request(3)
        for request in list(dead.requests):
            request.fail(UNAVAILABLE)
        dead.request(4).fail(UNAVAILABLE)
        eventually(lambda: setup.batcher.endpoints()[0].failures == 2)
    assert [one["event"] for one in lines] == ["an endpoint fails: the others embed its texts"]


def test_a_dead_endpoint_is_paused_and_tried_again(start):
    dead, working = ManualEmbedder(name="dead"), ManualEmbedder(name="working")
    setup = start(dead, working)
    for text in "abcd":
        setup.submit(text)
    eventually(lambda: len(dead.requests) == len(working.requests) == 2)
    lost = [*dead.request(0).texts, *dead.request(1).texts]
    dead.request(0).fail(UNAVAILABLE)
    dead.request(1).fail(UNAVAILABLE)
    eventually(lambda: setup.batcher.endpoints()[0].failures == 1)
    assert setup.stalls.current() == []  # the other endpoint works
    assert dead.request(2).texts == lost[-1:]  # a trial, while the other one is full
    working.request(0).respond()
    assert working.request(2).texts == lost[:1]
    dead.request(2).respond()
    eventually(lambda: setup.batcher.endpoints()[0].failures == 0)


def test_an_endpoint_with_a_short_pause_does_not_wait_for_one_with_a_long_pause(start):
    paused, failing = ManualEmbedder(name="paused"), ManualEmbedder(name="failing")
    setup = start(paused, failing)
    setup.submit("a")
    setup.submit("b")
    setup.submit("c")
    setup.submit("d")
    eventually(lambda: len(paused.requests) == len(failing.requests) == 2)
    for request in paused.requests:
        request.fail(TransientError("busy", retry_after_s=300.0))
    expected = EndpointStatus("paused", in_flight=0, concurrency=2, failures=1)
    eventually(lambda: setup.batcher.endpoints()[0] == expected)
    for request in list(failing.requests):
        request.fail(UNAVAILABLE)
    failing.request(2)  # not only in five minutes
    assert len(paused.requests) == 2


def test_a_failed_window_of_one_endpoint_is_embedded_by_another(start):
    def fail(texts):
        raise UNAVAILABLE

    dead, working = ManualEmbedder(fail, name="dead"), ManualEmbedder(accept_all, name="working")
    setup = start(dead, working, limits=WindowLimits(pages=3))
    texts = [f"{n}" for n in range(100)]
    setup.submit(*texts)
    setup.await_done(100)
    assert sorted(setup.done) == sorted(texts)


def test_a_configuration_error_loses_nothing_and_shows_its_remedy(start):
    def no_model(texts):
        raise ConfigurationError("no such model", remedy="pull it", status=404)

    embedder = ManualEmbedder(no_model)
    setup = start(embedder)
    setup.submit("a", "b")
    (stall,) = eventually(setup.stalls.current)
    assert (stall.reason, stall.remedy) == ("no such model", "pull it")
    eventually(lambda: len(embedder.requests) > 20)
    embedder.behaviour = accept_all
    setup.await_done(2)


def test_a_text_that_makes_the_server_fail_every_time_is_finally_refused(start):

    def behave(texts):
        if "kills" in texts:
            raise TransientError("EOF", status=500)
        return accept_all(texts)

    setup = start(ManualEmbedder(behave), min_failing_s=0.05)
    jobs = setup.submit("a", "kills", *(f"{n}" for n in range(50)))
    setup.await_done(52)
    assert [job.text for job in jobs if job.refused] == ["kills"]


@pytest.mark.parametrize("status", [429, 503, None])
def test_a_server_that_is_busy_for_a_long_time_refuses_no_page(start, status):

    def busy_except_for_the_canary(texts):
        if texts == ["page"]:
            return accept_all(texts)
        raise TransientError("busy", status=status)

    embedder = ManualEmbedder(busy_except_for_the_canary)
    setup = start(embedder, min_failing_s=0.0)
    (job,) = setup.submit("a")
    eventually(lambda: len(embedder.requests) > 30)
    assert job.refused is None
    embedder.behaviour = accept_all
    setup.await_done(1)
    assert job.vector == VECTOR


def test_a_server_that_recovers_at_the_last_moment_refuses_no_page(start):
    canaries = 0

    def recovers_at_the_canary(texts):
        nonlocal canaries
        canaries += texts == ["page"]
        if not canaries:
            raise TransientError("loading", status=500)
        return accept_all(texts)

    setup = start(ManualEmbedder(recovers_at_the_canary), min_failing_s=0.0)
    (job,) = setup.submit("a")
    setup.await_done(1)
    assert canaries == 1
    assert job.vector == VECTOR


def test_a_timeout_grows_with_the_cost_of_the_window_and_of_those_before_it(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a" * 1000)
    setup.submit("b" * 1000)
    assert embedder.request(0).timeout_s == embedder.request(1).timeout_s == 60.0
    setup.batcher._endpoints[0].throughput.learn(1200, 3.0)
    setup.submit("c" * 1000)
    embedder.request(0).respond()
    assert 70 < embedder.request(2).timeout_s < 75  # five times 2,400 characters at 1 s per 1,000
