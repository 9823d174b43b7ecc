from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.error_attribution import REFUSALS_BEFORE_CANARY
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.endpoint import EndpointStatus
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    BatcherSetup,
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually

UNAVAILABLE = TransientError("it is unavailable")


@pytest.fixture
def start(request):
    """Starts a batcher, whose event loop is closed at the end of the test."""

    def make(*embedders: ManualEmbedder, **options: object) -> BatcherSetup:
        setup = BatcherSetup(*embedders, **options)  # type: ignore[arg-type]
        request.addfinalizer(setup.event_loop.close)
        return setup

    return make


def refuses(*bad: str):
    """Return a behaviour that refuses a request with one of these texts."""

    def behave(texts):
        if set(texts) & set(bad):
            raise RejectedError("no")
        return accept_all(texts)

    return behave


def nan_for(*bad: str):
    """Return a behaviour that makes no valid vector of these texts."""
    return lambda texts: [None if text in bad else VECTOR for text in texts]


def at_most(chars: int):
    """Return a behaviour with a context of `chars` characters."""

    def behave(texts):
        if any(len(text) > chars for text in texts):
            raise TextTooLongError("the input length exceeds the context length")
        return accept_all(texts)

    return behave


# --- windows ---


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


# --- the check of the model ---


def test_nothing_is_sent_before_the_embedder_has_described_its_model(start):
    embedder = ManualEmbedder(accept_all)
    embedder.model_info = [
        UNAVAILABLE,
        UNAVAILABLE,
        RejectedError("not even the canary"),
        ModelInfo(2),
    ]
    setup = start(embedder, learn=False)
    setup.submit("a", "b")
    setup.await_done(2)
    assert embedder.checks == 4
    assert embedder.windows == [["a", "b"]]
    assert setup.stalls.current() == []


def test_the_endpoints_are_checked_in_turn_until_one_describes_its_model(start):
    dead, working = ManualEmbedder(accept_all, name="dead"), ManualEmbedder(accept_all)
    dead.model_info = [UNAVAILABLE]
    setup = start(dead, working)
    assert dead.checks == 1
    assert setup.batcher.model_info == ModelInfo(2)


@pytest.mark.parametrize(
    ("detect", "defect", "sent"),
    [
        (True, True, "prefix: paris"),
        (True, False, "Prefix: Paris"),
        (False, True, "Prefix: Paris"),
    ],
)
def test_texts_are_lower_cased_if_all_capitalised_words_look_the_same_to_the_server(
    start, detect, defect, sent
):
    embedder = ManualEmbedder(accept_all)
    embedder.model_info = [ModelInfo(2, capitals_defect=defect)]
    rules = TextRules("m", prefix="Prefix: ")
    setup = start(embedder, rules=rules, detect_lowercase=detect, learn=False)
    setup.submit("Paris")
    setup.await_done(1)
    assert embedder.windows == [[sent]]
    assert setup.batcher.rules == (rules.lowercased() if detect and defect else rules)


def test_an_updated_server_is_checked_before_it_receives_any_text(
    start,
):
    embedder = ManualEmbedder(accept_all)
    setup = start(embedder, detect_lowercase=True, cache_pages=9)
    setup.submit("Paris")
    setup.await_done(1)
    embedder.model_info = [ModelInfo(2, capitals_defect=True)]
    setup.submit("London")
    setup.await_done(2)
    setup.primary.recheck_after_silence_s = 0.0
    setup.submit("London", "Rome", "Bern")  # the first one is cached
    setup.await_done(5)
    setup.submit("London")
    setup.await_done(6)
    assert embedder.windows == [["Paris"], ["London"], ["rome", "bern"], ["london"]]
    assert embedder.checks == 2


def test_a_server_is_checked_after_a_failure_and_failed_checks_count_against_no_text(start):
    errors: list[Exception | None] = [None, TransientError("gone", status=503)]

    def behave(texts):
        if errors and (error := errors.pop(0)):
            raise error
        return accept_all(texts)

    embedder = ManualEmbedder(behave)
    setup = start(embedder, detect_lowercase=True)
    setup.submit("Paris")
    setup.await_done(1)
    broken = TransientError("broken", status=500)
    embedder.model_info = [broken, broken, broken, broken, RejectedError("no")]
    embedder.model_info.append(ModelInfo(2, capitals_defect=True))
    (job,) = setup.submit("London")
    setup.await_done(2)
    assert embedder.windows == [["Paris"], ["London"], ["london"]]
    assert job.refused is None
    assert embedder.checks == 7
    assert not setup.stalls.has("embedder")


def test_every_server_is_checked_before_its_first_window(start):
    good, bad = ManualEmbedder(accept_all, name="good"), ManualEmbedder(accept_all, name="bad")
    good.delay_s = bad.delay_s = 0.01
    bad.model_info = [ModelInfo(2, capitals_defect=True)]
    setup = start(good, bad, detect_lowercase=True, limits=WindowLimits(pages=1))
    setup.submit(*(f"Page {number}" for number in range(20)))
    setup.await_done(20)
    assert bad.checks >= 1
    assert bad.windows
    assert all(text.islower() for (text,) in bad.windows)


def test_a_busy_server_is_checked_once_a_minute(start):
    embedder = ManualEmbedder(accept_all)
    setup = start(embedder, detect_lowercase=True)
    for number in range(20):
        setup.submit(f"Page {number}")
        setup.await_done(number + 1)
    assert embedder.checks == 1
    setup.primary.recheck_every_s = 0.0
    setup.submit("Page 20")
    setup.await_done(21)
    assert embedder.checks == 2


def test_texts_in_flight_are_lower_cased_if_they_are_sent_again(start):
    good, bad = ManualEmbedder(name="good"), ManualEmbedder(name="bad")
    bad.model_info = [ModelInfo(2, capitals_defect=True)]
    setup = start(good, bad, detect_lowercase=True, limits=WindowLimits(pages=1))
    paris = "Paris " * 200
    setup.submit(paris, "London", "Rome")
    bad.request(0)
    assert [good.windows, bad.windows] == [[[paris], ["Rome"]], [["london"]]]

    def behave(texts):
        if texts == [paris]:
            raise TextTooLongError("too long")
        return accept_all(texts)

    good.behaviour = bad.behaviour = behave
    bad.request(0).respond()
    good.request(0).fail(TextTooLongError("too long"))
    good.request(1).fail(UNAVAILABLE)
    setup.await_done(3)
    assert all(text.islower() for (text,) in bad.windows)
    assert [paris.lower()] in good.windows + bad.windows
    assert ["rome"] in good.windows + bad.windows


def test_a_halt_during_a_check_leaves_the_window_unsent(start):
    embedder = ManualEmbedder(accept_all)
    setup = start(embedder, detect_lowercase=True)
    setup.primary.recheck_after_silence_s = 0.0
    embedder.check_s = 0.2
    setup.submit("Paris")
    eventually(lambda: embedder.checks == 2)
    setup.batcher.halt().result(10)
    setup.settle()
    assert embedder.windows == []
    assert setup.done == []


def test_both_windows_of_a_server_wait_for_one_check(start):
    embedder = ManualEmbedder(accept_all)
    setup = start(embedder, detect_lowercase=True, limits=WindowLimits(pages=1))
    embedder.check_s = 0.05
    setup.primary.endpoints[0].checked_at = -math.inf
    setup.submit("Paris", "London")
    setup.await_done(2)
    assert embedder.checks == 2


def test_the_model_is_checked_once(start):
    embedder = ManualEmbedder(accept_all)
    setup = start(embedder)
    for _ in range(5):
        setup.batcher.start()
        setup.submit("a")
    setup.await_done(5)
    assert embedder.checks == 1


# --- refused pages ---


def test_a_window_is_halved_until_the_refused_page_is_found(start):
    embedder = ManualEmbedder(refuses("bad"))
    setup = start(embedder)
    jobs = setup.submit("a", "b", "c", "bad", "d", "e", "f", "g")
    setup.await_done(8)
    assert [job.text for job in jobs if job.refused] == ["bad"]
    assert all(job.vector == VECTOR for job in jobs if job.text != "bad")
    assert len(embedder.requests) == 8  # of 8 texts; 4; 2; 2; 1, twice; 1; 4


def test_several_refused_pages_do_not_take_their_neighbours_along(start):
    setup = start(ManualEmbedder(refuses("x", "y")))
    jobs = setup.submit(*"xabycxdx")
    setup.await_done(8)
    assert {job.text for job in jobs if job.refused} == {"x", "y"}
    assert {job.text for job in jobs if job.vector} == set("abcd")


def test_a_text_with_an_invalid_vector_is_sent_again_alone(start):
    embedder = ManualEmbedder(nan_for("bad"))
    setup = start(embedder)
    jobs = setup.submit("a", "bad", "b")
    setup.await_done(3)
    assert embedder.windows == [["a", "bad", "b"], ["bad"]]
    assert [job.refused is None for job in jobs] == [True, False, True]


def test_a_single_text_with_an_invalid_vector_is_sent_again_too(start):
    embedder = ManualEmbedder(nan_for("bad"))
    setup = start(embedder)
    (job,) = setup.submit("bad")
    setup.await_done(1)
    assert embedder.windows == [["bad"], ["bad"]]
    assert "two requests" in (job.refused or "")


def test_a_vector_that_was_invalid_only_once_is_accepted_the_second_time(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    (job,) = setup.submit("a")
    embedder.request(0).respond([None])
    embedder.request(1).respond([VECTOR])
    setup.await_done(1)
    assert job.vector == VECTOR


def test_a_page_that_was_refused_only_once_is_accepted_the_second_time(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    (job,) = setup.submit("a")
    embedder.request(0).fail(RejectedError("no"))
    embedder.request(1).respond()
    setup.await_done(1)
    assert (job.vector, job.refused) == (VECTOR, None)


@pytest.mark.parametrize("rule", ["mean", "truncate", "refuse"])
def test_a_page_that_was_too_long_only_once_is_neither_truncated_nor_refused(start, rule):
    embedder = ManualEmbedder()
    setup = start(embedder, rules=TextRules("m", long_pages=rule))
    (job,) = setup.submit("word " * 100)
    embedder.request(0).fail(TextTooLongError("the input length exceeds the context length"))
    embedder.request(1).respond()
    setup.await_done(1)
    assert embedder.windows == [[job.text]] * 2
    assert job.vector == VECTOR


def test_if_the_canary_is_refused_too_the_setup_is_the_cause_and_the_pages_wait(start):
    is_repaired = threading.Event()

    def refuse_all(texts):
        if is_repaired.is_set() and texts != ["page"]:  # not between a page and the canary
            embedder.behaviour = accept_all
            return accept_all(texts)
        raise RejectedError("no")

    embedder = ManualEmbedder(refuse_all)
    setup = start(embedder)
    jobs = setup.submit(*(f"{n}" for n in range(60)))
    (stall,) = eventually(setup.stalls.current)
    assert "refuses every page" in stall.reason
    assert "EMBED_MODEL" in stall.remedy
    assert len(setup.done) == REFUSALS_BEFORE_CANARY
    is_repaired.set()
    setup.await_done(60)
    assert sum(job.refused is not None for job in jobs) == REFUSALS_BEFORE_CANARY
    eventually(lambda: not setup.stalls.current())


def test_many_refused_pages_in_a_row_do_not_stall_the_stream(start):
    bad = [f"bad {n}" for n in range(100)]
    setup = start(ManualEmbedder(refuses(*bad)))
    jobs = setup.submit(*bad, "good")
    setup.await_done(101)
    assert [job.text for job in jobs if job.vector] == ["good"]
    assert setup.stalls.current() == []


def test_any_number_of_pages_that_are_too_long_is_refused_if_configured(start):
    setup = start(ManualEmbedder(at_most(10)), rules=TextRules("m", long_pages="refuse"))
    jobs = setup.submit(*["x" * 11] * 50)
    setup.await_done(50)
    assert all(job.refused for job in jobs)
    assert setup.stalls.current() == []


# --- long pages ---


def test_a_long_page_is_sent_in_chunks_and_finished_with_the_last_one(start):
    embedder = ManualEmbedder()
    embedder.model_info = [ModelInfo(2, context_tokens=116)]  # 300 characters
    setup = start(embedder, limits=WindowLimits(pages=2))
    (job,) = setup.submit("word " * 200)
    first, second = embedder.request(0), embedder.request(1)
    second.respond()
    first.respond()
    embedder.request(2).respond()
    setup.await_done(1)
    assert "".join(chain(*embedder.windows)) == "word " * 200
    assert all(len(text) <= 300 for window in embedder.windows for text in window)
    assert job.vector == VECTOR


@pytest.mark.parametrize("rule", ["truncate", "refuse"])
def test_a_long_page_is_sent_whole_if_it_is_to_be_truncated_or_refused(start, rule):
    embedder = ManualEmbedder(accept_all)
    embedder.model_info = [ModelInfo(2, context_tokens=116)]
    setup = start(embedder, rules=TextRules("m", long_pages=rule))
    setup.submit("x" * 1000)
    setup.await_done(1)
    assert embedder.windows == [["x" * 1000]]
    assert embedder.requests[0].truncate == (rule == "truncate")


def test_chunks_that_are_still_too_long_are_split_until_they_fit(start):
    embedder = ManualEmbedder(at_most(500))
    setup = start(embedder)
    (job,) = setup.submit("word " * 500)
    setup.await_done(1)
    taken = [w for w in embedder.windows if all(len(text) <= 500 for text in w)]
    assert "".join(chain(*taken)) == "word " * 500
    assert job.vector == VECTOR


def test_a_server_that_cannot_truncate_receives_the_beginning(start):
    embedder = ManualEmbedder(at_most(500))
    setup = start(embedder, rules=TextRules("m", long_pages="truncate"))
    (job,) = setup.submit("word " * 500)
    setup.await_done(1)
    assert job.vector == VECTOR
    assert ("word " * 500).startswith(embedder.windows[-1][0])


def test_a_text_whose_chunks_never_fit_is_refused(start):
    setup = start(ManualEmbedder(at_most(30)))
    (job,) = setup.submit("word " * 500)
    setup.await_done(1)
    assert "context" in (job.refused or "")


@pytest.mark.parametrize("rule", ["mean", "truncate"])
def test_a_page_that_was_split_in_a_failed_window_is_finished_once(start, rule):
    """The window returns to the queue, but the whole text must not: its chunks are there."""
    failures = [UNAVAILABLE, UNAVAILABLE]

    def behave(texts):
        if texts == ["short"] and failures:
            raise failures.pop()
        return at_most(500)(texts)

    setup = start(ManualEmbedder(behave), rules=TextRules("m", long_pages=rule))
    jobs = setup.submit("word " * 150, "short")
    setup.await_done(2)
    setup.settle()
    assert not setup.crashes
    assert all(job.vector == VECTOR for job in jobs)


def test_a_page_with_a_refused_chunk_is_refused_once(start):
    def behave(texts):
        if any("poison" in text for text in texts):
            raise RejectedError("no")
        return accept_all(texts)

    embedder = ManualEmbedder(behave)
    embedder.model_info = [ModelInfo(2, context_tokens=116)]
    setup = start(embedder)
    long, short = setup.submit("word " * 100 + "poison " + "word " * 100, "short")
    setup.await_done(2)
    setup.settle()
    assert (long.refused, short.vector) == ("no", VECTOR)
    assert len(setup.done) == 2


# --- failures ---


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


# --- halt, and fatal errors ---


def test_a_halt_waits_for_requests_in_flight_and_sends_no_more(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a")
    setup.submit("b")
    setup.submit("c")
    embedder.request(1)
    halted = setup.batcher.halt()
    embedder.request(0).respond()
    setup.await_done(1)
    assert not halted.done()
    embedder.request(1).respond()
    halted.result(10)
    setup.submit("d")
    setup.settle()
    assert embedder.windows == [["a"], ["b"]]
    assert setup.batcher.halt().result(10) is None


def test_a_halt_without_requests_in_flight_ends_at_once(start):
    embedder = ManualEmbedder()
    embedder.model_info = [UNAVAILABLE]
    setup = start(embedder, learn=False)
    setup.submit("a")
    setup.batcher.halt().result(10)
    checks = embedder.checks
    setup.settle()
    assert embedder.checks <= checks + 1


def test_a_window_that_fails_after_a_halt_is_not_sent_again(start):
    embedder = ManualEmbedder()
    setup = start(embedder)
    setup.submit("a")
    embedder.request(0)
    halted = setup.batcher.halt()
    setup.settle()
    embedder.request(0).fail(UNAVAILABLE)
    halted.result(10)
    setup.settle()
    assert len(embedder.requests) == 1
    assert setup.done == []


def test_a_programming_error_on_the_event_loop_is_fatal(start):
    setup = start(ManualEmbedder(lambda texts: [VECTOR, VECTOR]))
    setup.submit("a")
    assert isinstance(eventually(lambda: setup.crashes)[0], ValueError)

    setup = start(ManualEmbedder(accept_all))
    setup.batcher.submit([EmbeddingJob(None, setup._finished, None)])
    assert eventually(lambda: setup.crashes)


# --- random failures ---


class RandomFailures:
    """The behaviour of an embedder that fails, refuses and makes invalid vectors at random.

    Args:
        seed: The seed of the random numbers.
        calm: Set when only bad texts are to fail.
    """

    def __init__(self, seed: int, calm: threading.Event) -> None:
        self.random = random.Random(seed)
        self.calm = calm

    def __call__(self, texts):
        number = 1.0 if self.calm.is_set() else self.random.random()
        if number < 0.1:
            raise TransientError("connection refused")
        if number < 0.15:
            raise TransientError("EOF", status=500)
        if number < 0.2:
            raise TransientError("busy", status=429, retry_after_s=0.001)
        if any(len(text) > 300 for text in texts):
            raise TextTooLongError("the input length exceeds the context length")
        if any(text.startswith("bad") for text in texts):
            raise RejectedError("no")
        return [None if text.startswith("nan") or number < 0.25 else VECTOR for text in texts]


def test_at_the_start_the_next_endpoint_is_checked_at_once_if_the_first_one_is_busy():
    busy, working = ManualEmbedder(name="busy"), ManualEmbedder(name="working")
    busy.model_info = [TransientError("busy", status=429, retry_after_s=300.0)]
    setup = BatcherSetup(busy, working)
    setup.batcher.start()
    eventually(lambda: setup.batcher.model_info)
    setup.event_loop.close()
    assert (busy.checks, working.checks) == (1, 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["mean", "truncate", "refuse"]))
def test_whatever_the_embedders_do_each_page_is_finished_once_and_correctly(seed, rule):
    chance, calm = random.Random(seed), threading.Event()
    embedders = [ManualEmbedder(RandomFailures(seed + n, calm), name=f"{n}") for n in range(2)]
    setup = BatcherSetup(
        *embedders,
        rules=TextRules("m", long_pages=rule),
        limits=WindowLimits(pages=6),
        min_pause_s=0.0005,
        max_pause_s=0.002,
    )
    texts = ["good", "bad", "nan", "long " * 100, "longer " * 900]
    jobs = []
    for number in range(60):
        jobs += setup.submit(f"{chance.choice(texts)} {number}" * chance.choice([1, 1, 2]))
        if chance.random() < 0.2:
            jobs[-1].dropped = not jobs[-1].sent
    calm.set()
    eventually(lambda: all(j.dropped or j.vector or j.refused for j in jobs) or setup.crashes)
    setup.settle()
    setup.event_loop.close()
    assert setup.crashes == []
    assert max(Counter(setup.done).values()) == 1
    for job in jobs:
        if not job.dropped:
            assert (job.vector is None) == (job.refused is not None)
            is_good = job.text.startswith("good" if rule == "refuse" else ("good", "long"))
            assert not is_good or job.vector or _bad_twice(job)


def _bad_twice(job: EmbeddingJob) -> bool:
    """Whether the embedder happened to make two invalid vectors of the text in a row."""
    return "two requests" in (job.refused or "")
