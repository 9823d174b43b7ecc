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
from tests.connectors.embedders.manual_embedder import VECTOR, Line, ManualEmbedder, takes_all
from tests.eventually import eventually

AWAY = TransientError("it is away")


@pytest.fixture
def open_line(request):
    """Makes a line whose loop is closed at the end of the test."""

    def make(*embedders: ManualEmbedder, **options: object) -> Line:
        line = Line(*embedders, **options)  # type: ignore[arg-type]
        request.addfinalizer(line.event_loop.close)
        return line

    return make


def refuses(*bad: str):
    """A behaviour that refuses a request with one of these texts in it, as a whole."""

    def behave(texts):
        if set(texts) & set(bad):
            raise RejectedError("no")
        return takes_all(texts)

    return behave


def nan_for(*bad: str):
    """A behaviour that makes a bad vector of these texts, and good ones of the others."""
    return lambda texts: [None if text in bad else VECTOR for text in texts]


def at_most(chars: int):
    """A behaviour with a context of so many characters."""

    def behave(texts):
        if any(len(text) > chars for text in texts):
            raise TextTooLongError("the input length exceeds the context length")
        return takes_all(texts)

    return behave


# --- windows ---


def test_a_page_that_comes_alone_goes_at_once(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    (job,) = line.submit("a")
    embedder.request(0).answer()
    line.await_done(1)
    assert (job.vector, job.refused, job.model, job.sent) == (VECTOR, None, "m", True)
    assert embedder.windows == [["a"]]


def test_while_two_windows_are_in_flight_the_next_one_fills(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    for text in "abcde":
        line.submit(text)
    embedder.request(1)
    line.settle()
    assert embedder.windows == [["a"], ["b"]]
    assert line.batcher.queued_texts == 3
    (endpoint,) = line.batcher.endpoints()
    assert endpoint == EndpointStatus("e", in_flight=2, concurrency=2, failures=0)
    embedder.request(0).answer()
    assert embedder.request(2).texts == ["c", "d", "e"]


def test_an_endpoint_gets_as_many_requests_at_once_as_it_may_have(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder, concurrency=4)
    for text in "abcdefg":
        line.submit(text)
    embedder.request(3)
    line.settle()
    assert embedder.windows == [["a"], ["b"], ["c"], ["d"]]
    assert line.batcher.endpoints() == [EndpointStatus("e", 4, concurrency=4, failures=0)]
    embedder.request(2).answer()  # whichever is first
    assert embedder.request(4).texts == ["e", "f", "g"]


def test_pages_of_many_submitters_share_a_window(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a")
    line.submit("b")
    line.submit("c", "d")
    line.submit("e")
    embedder.request(0).answer()
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
def test_a_window_ends_at_the_limit_of_pages_or_characters(open_line, limits, max_texts, windows):
    embedder = ManualEmbedder(max_texts=max_texts)
    line = open_line(embedder, limits=limits)
    line.submit("aaa", "bbb", "ccc", "ddd", "eee")
    for number in range(len(windows)):
        embedder.request(number).answer()
    line.await_done(5)
    assert embedder.windows == windows


def test_a_window_holds_no_more_than_the_embedder_is_known_to_need_the_target_for(
    open_line,
):
    embedder = ManualEmbedder(takes_all)
    embedder.delay_s = 0.02
    line = open_line(embedder, target_s=0.2)
    line.submit("first")
    line.await_done(1)
    line.submit(*["texts"] * 40)
    line.await_done(41)
    sizes = [len(window) for window in embedder.windows[1:]]
    assert sum(sizes) == 40
    assert 2 <= max(sizes) <= 11  # ten of 20 ms each
    assert len(sizes) <= 15


def test_no_window_goes_while_the_outputs_have_enough_to_do(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a")
    first = embedder.request(0)
    line.outputs_busy = True
    first.answer()
    line.await_done(1)
    line.submit("b", "c")
    line.settle()
    assert embedder.windows == [["a"]]
    assert line.batcher.queued_texts == 2
    line.outputs_busy = False
    assert embedder.request(1).texts == ["b", "c"]


def test_a_window_waits_for_company_only_where_that_is_wished(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder, limits=WindowLimits(pages=3, wait_s=0.05))
    line.submit("a")
    line.submit("b")
    assert embedder.request(0).texts == ["a", "b"]
    line.submit("c", "d", "e", "f")
    assert embedder.request(1).texts == ["c", "d", "e"]  # full: no need to wait


def test_pages_are_done_in_the_order_in_which_they_came(open_line):
    line = open_line(ManualEmbedder(takes_all), limits=WindowLimits(pages=4))
    texts = [f"{n}" for n in range(200)]
    for text in texts:
        line.submit(text)
    line.await_done(200)
    assert line.done == texts


def test_the_least_loaded_endpoint_gets_the_next_window(open_line):
    first, second = ManualEmbedder(name="1"), ManualEmbedder(name="2")
    line = open_line(first, second)
    for text in "abcd":
        line.submit(text)
    eventually(lambda: len(first.asked) == len(second.asked) == 2)
    line.submit("e")
    second.request(1).answer()
    assert second.request(2).texts == ["e"]
    assert [e.in_flight for e in line.batcher.endpoints()] == [2, 2]


def test_a_text_that_is_known_costs_no_request(open_line):
    embedder = ManualEmbedder(takes_all)
    line = open_line(embedder, cache_pages=10)
    line.submit("a")
    line.await_done(1)
    (again,) = line.submit("a")
    line.await_done(2)
    assert (again.vector, again.sent, again.model) == (VECTOR, True, "m")
    assert embedder.windows == [["a"]]


def test_a_job_that_was_dropped_is_never_sent(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a")
    line.submit("b")
    dropped, _ = line.submit("c", "d")
    dropped.dropped = True
    embedder.request(0).answer()
    assert embedder.request(2).texts == ["d"]
    assert not dropped.sent


def test_what_was_dropped_does_not_pile_up_while_the_embedder_is_away(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a", "b")
    line.submit("c")
    embedder.request(1)
    before = line.submit("hot")[0]
    for _ in range(20_000):
        before.dropped = True
        (before,) = line.submit("hot")
    line.settle()
    assert line.batcher.queued_texts < 5000
    embedder.request(0).answer()
    assert embedder.request(2).texts == ["hot"]


def test_gauges_return_to_zero(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a")
    embedder.request(0)
    gauge = line.metrics.embed_in_flight.labels("0")
    eventually(lambda: gauge._value.get() == 1)
    embedder.request(0).answer()
    eventually(lambda: gauge._value.get() == 0)


# --- what the embedder tells at the start ---


def test_nothing_is_sent_before_the_embedder_has_told_about_its_model(open_line):
    embedder = ManualEmbedder(takes_all)
    embedder.model_info = [AWAY, AWAY, RejectedError("not even a word"), ModelInfo(2)]
    line = open_line(embedder, learn=False)
    line.submit("a", "b")
    line.await_done(2)
    assert embedder.checks == 4
    assert embedder.windows == [["a", "b"]]
    assert line.stalls.current() == []


def test_the_endpoints_are_asked_in_turn_until_one_has_told(open_line):
    dead, sound = ManualEmbedder(takes_all, name="dead"), ManualEmbedder(takes_all)
    dead.model_info = [AWAY]
    line = open_line(dead, sound)
    assert dead.checks == 1
    assert line.batcher.model_info == ModelInfo(2)


@pytest.mark.parametrize(
    ("detect", "defect", "sent"),
    [
        (True, True, "prefix: paris"),
        (True, False, "Prefix: Paris"),
        (False, True, "Prefix: Paris"),
    ],
)
def test_texts_are_lower_cased_where_the_server_takes_all_capitals_for_the_same(
    open_line, detect, defect, sent
):
    embedder = ManualEmbedder(takes_all)
    embedder.model_info = [ModelInfo(2, capitals_defect=defect)]
    rules = TextRules("m", prefix="Prefix: ")
    line = open_line(embedder, rules=rules, detect_lowercase=detect, learn=False)
    line.submit("Paris")
    line.await_done(1)
    assert embedder.windows == [[sent]]
    assert line.batcher.rules == (rules.lowercased() if detect and defect else rules)


def test_a_server_that_was_updated_meanwhile_gets_its_texts_lower_cased_before_any_of_them(
    open_line,
):
    embedder = ManualEmbedder(takes_all)
    line = open_line(embedder, detect_lowercase=True, cache_pages=9)
    line.submit("Paris")
    line.await_done(1)
    embedder.model_info = [ModelInfo(2, capitals_defect=True)]
    line.submit("London")
    line.await_done(2)
    line.primary.recheck_after_silence_s = 0.0
    line.submit("London", "Rome", "Bern")  # the first is remembered, from before
    line.await_done(5)
    line.submit("London")
    line.await_done(6)
    assert embedder.windows == [["Paris"], ["London"], ["rome", "bern"], ["london"]]
    assert embedder.checks == 2


def test_a_server_is_looked_at_after_a_fault_and_its_own_faults_blame_no_text(open_line):
    answers: list[Exception | None] = [None, TransientError("gone", status=503)]

    def behave(texts):
        if answers and (error := answers.pop(0)):
            raise error
        return takes_all(texts)

    embedder = ManualEmbedder(behave)
    line = open_line(embedder, detect_lowercase=True)
    line.submit("Paris")
    line.await_done(1)
    broken = TransientError("broken", status=500)
    embedder.model_info = [broken, broken, broken, broken, RejectedError("no")]
    embedder.model_info.append(ModelInfo(2, capitals_defect=True))
    (job,) = line.submit("London")
    line.await_done(2)
    assert embedder.windows == [["Paris"], ["London"], ["london"]]
    assert job.refused is None
    assert embedder.checks == 7
    assert not line.stalls.has("embedder")


def test_every_server_is_looked_at_before_its_first_window(open_line):
    good, bad = ManualEmbedder(takes_all, name="good"), ManualEmbedder(takes_all, name="bad")
    good.delay_s = bad.delay_s = 0.01
    bad.model_info = [ModelInfo(2, capitals_defect=True)]
    line = open_line(good, bad, detect_lowercase=True, limits=WindowLimits(pages=1))
    line.submit(*(f"Page {number}" for number in range(20)))
    line.await_done(20)
    assert bad.checks >= 1
    assert bad.windows
    assert all(text.islower() for (text,) in bad.windows)


def test_a_server_that_is_asked_all_the_time_is_looked_at_each_minute(open_line):
    embedder = ManualEmbedder(takes_all)
    line = open_line(embedder, detect_lowercase=True)
    for number in range(20):
        line.submit(f"Page {number}")
        line.await_done(number + 1)
    assert embedder.checks == 1
    line.primary.recheck_every_s = 0.0
    line.submit("Page 20")
    line.await_done(21)
    assert embedder.checks == 2


def test_texts_that_were_on_their_way_when_lower_case_began_come_back_as_lower_case(open_line):
    good, bad = ManualEmbedder(name="good"), ManualEmbedder(name="bad")
    bad.model_info = [ModelInfo(2, capitals_defect=True)]
    line = open_line(good, bad, detect_lowercase=True, limits=WindowLimits(pages=1))
    paris = "Paris " * 200
    line.submit(paris, "London", "Rome")
    bad.request(0)
    assert [good.windows, bad.windows] == [[[paris], ["Rome"]], [["london"]]]

    def behave(texts):
        if texts == [paris]:
            raise TextTooLongError("too long")
        return takes_all(texts)

    good.behaviour = bad.behaviour = behave
    bad.request(0).answer()
    good.request(0).fail(TextTooLongError("too long"))
    good.request(1).fail(AWAY)
    line.await_done(3)
    assert all(text.islower() for (text,) in bad.windows)
    assert [paris.lower()] in good.windows + bad.windows
    assert ["rome"] in good.windows + bad.windows


def test_a_stop_while_a_server_is_looked_at_leaves_its_window_unsent(open_line):
    embedder = ManualEmbedder(takes_all)
    line = open_line(embedder, detect_lowercase=True)
    line.primary.recheck_after_silence_s = 0.0
    embedder.check_s = 0.2
    line.submit("Paris")
    eventually(lambda: embedder.checks == 2)
    line.batcher.halt().result(10)
    line.settle()
    assert embedder.windows == []
    assert line.done == []


def test_both_windows_of_a_server_wait_for_one_look(open_line):
    embedder = ManualEmbedder(takes_all)
    line = open_line(embedder, detect_lowercase=True, limits=WindowLimits(pages=1))
    embedder.check_s = 0.05
    line.primary.endpoints[0].checked_at = -math.inf
    line.submit("Paris", "London")
    line.await_done(2)
    assert embedder.checks == 2


def test_the_embedder_s_facts_are_asked_for_once(open_line):
    embedder = ManualEmbedder(takes_all)
    line = open_line(embedder)
    for _ in range(5):
        line.batcher.start()
        line.submit("a")
    line.await_done(5)
    assert embedder.checks == 1


# --- refused pages ---


def test_a_window_is_halved_until_the_refused_page_is_found(open_line):
    embedder = ManualEmbedder(refuses("bad"))
    line = open_line(embedder)
    jobs = line.submit("a", "b", "c", "bad", "d", "e", "f", "g")
    line.await_done(8)
    assert [job.text for job in jobs if job.refused] == ["bad"]
    assert all(job.vector == VECTOR for job in jobs if job.text != "bad")
    assert len(embedder.asked) == 8  # 8; 4; 2; 2, of which 1, twice, and 1; 4


def test_several_refused_pages_do_not_take_their_neighbours_along(open_line):
    line = open_line(ManualEmbedder(refuses("x", "y")))
    jobs = line.submit(*"xabycxdx")
    line.await_done(8)
    assert {job.text for job in jobs if job.refused} == {"x", "y"}
    assert {job.text for job in jobs if job.vector} == set("abcd")


def test_one_bad_vector_is_asked_for_again_alone(open_line):
    embedder = ManualEmbedder(nan_for("bad"))
    line = open_line(embedder)
    jobs = line.submit("a", "bad", "b")
    line.await_done(3)
    assert embedder.windows == [["a", "bad", "b"], ["bad"]]
    assert [job.refused is None for job in jobs] == [True, False, True]


def test_a_bad_vector_that_came_alone_is_asked_for_again_too(open_line):
    embedder = ManualEmbedder(nan_for("bad"))
    line = open_line(embedder)
    (job,) = line.submit("bad")
    line.await_done(1)
    assert embedder.windows == [["bad"], ["bad"]]
    assert "two requests" in (job.refused or "")


def test_a_vector_that_was_bad_only_once_is_taken_the_second_time(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    (job,) = line.submit("a")
    embedder.request(0).answer([None])
    embedder.request(1).answer([VECTOR])
    line.await_done(1)
    assert job.vector == VECTOR


def test_a_page_that_was_refused_only_once_alone_is_taken_the_second_time(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    (job,) = line.submit("a")
    embedder.request(0).fail(RejectedError("no"))
    embedder.request(1).answer()
    line.await_done(1)
    assert (job.vector, job.refused) == (VECTOR, None)


@pytest.mark.parametrize("rule", ["mean", "truncate", "refuse"])
def test_a_page_that_was_too_long_only_once_is_neither_cut_nor_refused(open_line, rule):
    embedder = ManualEmbedder()
    line = open_line(embedder, rules=TextRules("m", long_pages=rule))
    (job,) = line.submit("word " * 100)
    embedder.request(0).fail(TextTooLongError("the input length exceeds the context length"))
    embedder.request(1).answer()
    line.await_done(1)
    assert embedder.windows == [[job.text]] * 2
    assert job.vector == VECTOR


def test_when_even_a_plain_word_is_refused_it_is_the_set_up_s_fault_and_the_rest_waits(open_line):
    mended = threading.Event()

    def refuse_all(texts):
        if mended.is_set() and texts != ["page"]:  # not between a page and the plain word
            embedder.behaviour = takes_all
            return takes_all(texts)
        raise RejectedError("no")

    embedder = ManualEmbedder(refuse_all)
    line = open_line(embedder)
    jobs = line.submit(*(f"{n}" for n in range(60)))
    (stall,) = eventually(line.stalls.current)
    assert "refuses every page" in stall.reason
    assert "EMBED_MODEL" in stall.remedy
    assert len(line.done) == REFUSALS_BEFORE_CANARY
    mended.set()
    line.await_done(60)
    assert sum(job.refused is not None for job in jobs) == REFUSALS_BEFORE_CANARY
    eventually(lambda: not line.stalls.current())


def test_many_refused_pages_in_a_row_do_not_hold_up_the_stream(open_line):
    bad = [f"bad {n}" for n in range(100)]
    line = open_line(ManualEmbedder(refuses(*bad)))
    jobs = line.submit(*bad, "good")
    line.await_done(101)
    assert [job.text for job in jobs if job.vector] == ["good"]
    assert line.stalls.current() == []


def test_pages_that_are_too_long_are_refused_as_wished_however_many_there_are(open_line):
    line = open_line(ManualEmbedder(at_most(10)), rules=TextRules("m", long_pages="refuse"))
    jobs = line.submit(*["x" * 11] * 50)
    line.await_done(50)
    assert all(job.refused for job in jobs)
    assert line.stalls.current() == []


# --- long pages ---


def test_a_long_page_goes_in_pieces_and_is_done_once_all_are(open_line):
    embedder = ManualEmbedder()
    embedder.model_info = [ModelInfo(2, context_tokens=116)]  # 300 characters
    line = open_line(embedder, limits=WindowLimits(pages=2))
    (job,) = line.submit("word " * 200)
    first, second = embedder.request(0), embedder.request(1)
    second.answer()
    first.answer()
    embedder.request(2).answer()
    line.await_done(1)
    assert "".join(chain(*embedder.windows)) == "word " * 200
    assert all(len(text) <= 300 for window in embedder.windows for text in window)
    assert job.vector == VECTOR


@pytest.mark.parametrize("rule", ["truncate", "refuse"])
def test_a_long_page_goes_whole_where_it_is_to_be_truncated_or_refused(open_line, rule):
    embedder = ManualEmbedder(takes_all)
    embedder.model_info = [ModelInfo(2, context_tokens=116)]
    line = open_line(embedder, rules=TextRules("m", long_pages=rule))
    line.submit("x" * 1000)
    line.await_done(1)
    assert embedder.windows == [["x" * 1000]]
    assert embedder.asked[0].truncate == (rule == "truncate")


def test_pieces_that_are_still_too_long_are_halved_until_they_fit(open_line):
    embedder = ManualEmbedder(at_most(500))
    line = open_line(embedder)
    (job,) = line.submit("word " * 500)
    line.await_done(1)
    taken = [w for w in embedder.windows if all(len(text) <= 500 for text in w)]
    assert "".join(chain(*taken)) == "word " * 500
    assert job.vector == VECTOR


def test_a_server_that_cannot_truncate_gets_the_beginning(open_line):
    embedder = ManualEmbedder(at_most(500))
    line = open_line(embedder, rules=TextRules("m", long_pages="truncate"))
    (job,) = line.submit("word " * 500)
    line.await_done(1)
    assert job.vector == VECTOR
    assert ("word " * 500).startswith(embedder.windows[-1][0])


def test_a_text_of_which_no_piece_fits_is_refused(open_line):
    line = open_line(ManualEmbedder(at_most(30)))
    (job,) = line.submit("word " * 500)
    line.await_done(1)
    assert "context" in (job.refused or "")


@pytest.mark.parametrize("rule", ["mean", "truncate"])
def test_a_page_that_was_split_in_a_window_that_then_failed_is_done_once(open_line, rule):
    """The window goes back to the queue, but the whole text must not: its pieces are there."""
    failures = [AWAY, AWAY]

    def behave(texts):
        if texts == ["short"] and failures:
            raise failures.pop()
        return at_most(500)(texts)

    line = open_line(ManualEmbedder(behave), rules=TextRules("m", long_pages=rule))
    jobs = line.submit("word " * 150, "short")
    line.await_done(2)
    line.settle()
    assert not line.crashes
    assert all(job.vector == VECTOR for job in jobs)


def test_a_page_of_which_one_piece_is_refused_is_refused_once(open_line):
    def behave(texts):
        if any("poison" in text for text in texts):
            raise RejectedError("no")
        return takes_all(texts)

    embedder = ManualEmbedder(behave)
    embedder.model_info = [ModelInfo(2, context_tokens=116)]
    line = open_line(embedder)
    long, short = line.submit("word " * 100 + "poison " + "word " * 100, "short")
    line.await_done(2)
    line.settle()
    assert (long.refused, short.vector) == ("no", VECTOR)
    assert len(line.done) == 2


# --- faults ---


def test_a_window_that_failed_is_asked_again_and_the_stall_has_a_name(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder, min_stall_s=0.0)
    line.submit("a", "b", "c")
    embedder.request(0).fail(AWAY)
    (stall,) = eventually(line.stalls.current)
    assert (stall.service, stall.reason) == ("embedder", "it is away")
    embedder.request(1).fail(AWAY)
    embedder.request(2).answer()
    embedder.request(3).answer()
    line.await_done(3)
    assert line.done == ["a", "b", "c"]
    eventually(lambda: not line.stalls.current())


def test_after_a_fault_one_text_goes_ahead_to_try(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a", "b", "c")
    embedder.request(0).fail(AWAY)
    assert embedder.request(1).texts == ["a"]
    line.settle()
    assert len(embedder.asked) == 2
    embedder.request(1).answer()
    assert embedder.request(2).texts == ["b", "c"]


def test_requests_that_fail_together_are_one_fault(open_line):
    """Sixteen faults in a row would mean five seconds' pause for a server that restarts."""
    embedder = ManualEmbedder()
    line = open_line(embedder, concurrency=16)
    for number in range(16):
        line.submit(f"{number}")
    embedder.request(15)
    for asked in list(embedder.asked):
        asked.fail(AWAY)
    trial = embedder.request(16)
    assert line.batcher.endpoints()[0].failures == 1
    trial.fail(AWAY)
    eventually(lambda: line.batcher.endpoints()[0].failures == 2)


def test_a_text_under_suspicion_goes_while_no_other_is_in_flight(open_line):
    """A page that kills the model fails what is in flight with it, and that would be suspected."""
    embedder = ManualEmbedder()
    line = open_line(embedder, limits=WindowLimits(pages=1), concurrency=3)
    killed = TransientError("EOF", status=500)
    line.submit("killer", "a", "b")
    embedder.request(2)

    def end(fails: int, answers: int) -> None:
        embedder.request(fails).fail(killed)
        line.settle()
        embedder.request(answers).answer()

    end(0, 1)
    end(3, 2)
    embedder.request(4)
    line.submit("c")
    line.submit("d")
    embedder.request(6)
    end(4, 5)
    time.sleep(0.05)  # longer than an endpoint is left alone here
    assert embedder.windows[3:] == [["killer"], ["killer"], ["c"], ["d"]]
    embedder.request(6).answer()
    trial = embedder.request(7)
    line.submit("e")
    line.settle()
    assert embedder.windows[7:] == [["killer"]]
    trial.answer()
    assert embedder.request(8).texts == ["e"]


def test_what_waits_for_a_look_at_a_server_fails_with_it(open_line):
    """Each of them asking it again would take as many time-outs of a server that hangs."""
    embedder = ManualEmbedder(takes_all)
    limits = WindowLimits(pages=1)
    line = open_line(embedder, detect_lowercase=True, limits=limits, concurrency=8)
    embedder.model_info = [TransientError("it hangs", retry_after_s=300.0)]
    embedder.check_s = 0.05
    line.primary.endpoints[0].checked_at = -math.inf
    line.submit(*"abcdefgh")
    eventually(lambda: line.batcher.endpoints()[0].failures)
    line.settle()
    assert line.batcher.endpoints() == [EndpointStatus("e", 0, concurrency=8, failures=1)]
    assert line.batcher.queued_texts == 8
    assert embedder.checks == 2  # one at the start


def test_the_failure_of_one_endpoint_of_several_is_logged_once(open_line):
    dead, sound = ManualEmbedder(name="dead"), ManualEmbedder(name="sound")
    line = open_line(dead, sound, limits=WindowLimits(pages=1), concurrency=4)
    with capture_logs() as lines:
        line.submit(*"abcdefgh")
        dead.request(3)
        for asked in list(dead.asked):
            asked.fail(AWAY)
        dead.request(4).fail(AWAY)
        eventually(lambda: line.batcher.endpoints()[0].failures == 2)
    assert [one["event"] for one in lines] == ["an endpoint fails: the others embed its texts"]


def test_a_dead_endpoint_is_left_out_and_tried_again(open_line):
    dead, sound = ManualEmbedder(name="dead"), ManualEmbedder(name="sound")
    line = open_line(dead, sound)
    for text in "abcd":
        line.submit(text)
    eventually(lambda: len(dead.asked) == len(sound.asked) == 2)
    lost = [*dead.request(0).texts, *dead.request(1).texts]
    dead.request(0).fail(AWAY)
    dead.request(1).fail(AWAY)
    eventually(lambda: line.batcher.endpoints()[0].failures == 1)
    assert line.stalls.current() == []  # the other one works
    assert dead.request(2).texts == lost[-1:]  # a trial, while the sound one is full
    sound.request(0).answer()
    assert sound.request(2).texts == lost[:1]
    dead.request(2).answer()
    eventually(lambda: line.batcher.endpoints()[0].failures == 0)


def test_an_endpoint_that_may_be_asked_soon_is_not_forgotten_for_one_that_may_be_late(open_line):
    patient, hasty = ManualEmbedder(name="patient"), ManualEmbedder(name="hasty")
    line = open_line(patient, hasty)
    line.submit("a")
    line.submit("b")
    line.submit("c")
    line.submit("d")
    eventually(lambda: len(patient.asked) == len(hasty.asked) == 2)
    for asked in patient.asked:
        asked.fail(TransientError("busy", retry_after_s=300.0))
    left_out = EndpointStatus("patient", in_flight=0, concurrency=2, failures=1)
    eventually(lambda: line.batcher.endpoints()[0] == left_out)
    for asked in list(hasty.asked):
        asked.fail(AWAY)
    hasty.request(2)  # soon, and not in five minutes
    assert len(patient.asked) == 2


def test_a_failed_window_of_one_endpoint_is_done_by_another(open_line):
    def fail(texts):
        raise AWAY

    dead, sound = ManualEmbedder(fail, name="dead"), ManualEmbedder(takes_all, name="sound")
    line = open_line(dead, sound, limits=WindowLimits(pages=3))
    texts = [f"{n}" for n in range(100)]
    line.submit(*texts)
    line.await_done(100)
    assert sorted(line.done) == sorted(texts)


def test_a_set_up_fault_loses_nothing_and_shows_its_remedy(open_line):
    def no_model(texts):
        raise ConfigurationError("no such model", remedy="pull it", status=404)

    embedder = ManualEmbedder(no_model)
    line = open_line(embedder)
    line.submit("a", "b")
    (stall,) = eventually(line.stalls.current)
    assert (stall.reason, stall.remedy) == ("no such model", "pull it")
    eventually(lambda: len(embedder.asked) > 20)
    embedder.behaviour = takes_all
    line.await_done(2)


def test_a_text_that_makes_the_server_fail_each_time_is_refused_in_the_end(open_line):

    def behave(texts):
        if "kills" in texts:
            raise TransientError("EOF", status=500)
        return takes_all(texts)

    line = open_line(ManualEmbedder(behave), min_failing_s=0.05)
    jobs = line.submit("a", "kills", *(f"{n}" for n in range(50)))
    line.await_done(52)
    assert [job.text for job in jobs if job.refused] == ["kills"]


@pytest.mark.parametrize("status", [429, 503, None])
def test_a_server_that_is_busy_for_long_has_no_page_refused(open_line, status):

    def busy_but_for_a_word(texts):
        if texts == ["page"]:
            return takes_all(texts)
        raise TransientError("busy", status=status)

    embedder = ManualEmbedder(busy_but_for_a_word)
    line = open_line(embedder, min_failing_s=0.0)
    (job,) = line.submit("a")
    eventually(lambda: len(embedder.asked) > 30)
    assert job.refused is None
    embedder.behaviour = takes_all
    line.await_done(1)
    assert job.vector == VECTOR


def test_a_server_that_recovers_at_the_last_moment_has_no_page_refused(open_line):
    asked = 0

    def recovers_when_asked_a_word(texts):
        nonlocal asked
        asked += texts == ["page"]
        if not asked:
            raise TransientError("loading", status=500)
        return takes_all(texts)

    line = open_line(ManualEmbedder(recovers_when_asked_a_word), min_failing_s=0.0)
    (job,) = line.submit("a")
    line.await_done(1)
    assert asked == 1
    assert job.vector == VECTOR


def test_a_time_out_grows_with_what_the_embedder_needs_and_with_what_is_before_it(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a" * 1000)
    line.submit("b" * 1000)
    assert embedder.request(0).timeout_s == embedder.request(1).timeout_s == 60.0
    line.batcher._endpoints[0].throughput.learn(1200, 3.0)
    line.submit("c" * 1000)
    embedder.request(0).answer()
    assert 70 < embedder.request(2).timeout_s < 75  # 2,400 at about 1 s a 1,000, five times


# --- stopping, and what must not be hidden ---


def test_a_halt_waits_for_what_is_in_flight_and_sends_nothing_more(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a")
    line.submit("b")
    line.submit("c")
    embedder.request(1)
    halted = line.batcher.halt()
    embedder.request(0).answer()
    line.await_done(1)
    assert not halted.done()
    embedder.request(1).answer()
    halted.result(10)
    line.submit("d")
    line.settle()
    assert embedder.windows == [["a"], ["b"]]
    assert line.batcher.halt().result(10) is None


def test_a_halt_with_nothing_in_flight_is_over_at_once(open_line):
    embedder = ManualEmbedder()
    embedder.model_info = [AWAY]
    line = open_line(embedder, learn=False)
    line.submit("a")
    line.batcher.halt().result(10)
    checks = embedder.checks
    line.settle()
    assert embedder.checks <= checks + 1


def test_a_window_that_fails_after_a_halt_is_not_sent_again(open_line):
    embedder = ManualEmbedder()
    line = open_line(embedder)
    line.submit("a")
    embedder.request(0)
    halted = line.batcher.halt()
    line.settle()
    embedder.request(0).fail(AWAY)
    halted.result(10)
    line.settle()
    assert len(embedder.asked) == 1
    assert line.done == []


def test_an_error_of_ours_is_fatal_wherever_on_the_loop_it_happens(open_line):
    line = open_line(ManualEmbedder(lambda texts: [VECTOR, VECTOR]))
    line.submit("a")
    assert isinstance(eventually(lambda: line.crashes)[0], ValueError)

    line = open_line(ManualEmbedder(takes_all))
    line.batcher.submit([EmbeddingJob(None, line._finished, None)])
    assert eventually(lambda: line.crashes)


# --- everything at once ---


class Moody:
    """An embedder that fails, refuses and makes bad vectors, as its seed has it.

    Args:
        seed: Of its moods.
        calm: Set when it is to answer only as the texts deserve.
    """

    def __init__(self, seed: int, calm: threading.Event) -> None:
        self.random = random.Random(seed)
        self.calm = calm

    def __call__(self, texts):
        mood = 1.0 if self.calm.is_set() else self.random.random()
        if mood < 0.1:
            raise TransientError("connection refused")
        if mood < 0.15:
            raise TransientError("EOF", status=500)
        if mood < 0.2:
            raise TransientError("busy", status=429, retry_after_s=0.001)
        if any(len(text) > 300 for text in texts):
            raise TextTooLongError("the input length exceeds the context length")
        if any(text.startswith("bad") for text in texts):
            raise RejectedError("no")
        return [None if text.startswith("nan") or mood < 0.25 else VECTOR for text in texts]


def test_at_the_start_an_endpoint_that_asks_for_time_is_left_alone_and_the_next_is_asked_at_once():
    busy, sound = ManualEmbedder(name="busy"), ManualEmbedder(name="sound")
    busy.model_info = [TransientError("busy", status=429, retry_after_s=300.0)]
    line = Line(busy, sound)
    line.batcher.start()
    eventually(lambda: line.batcher.model_info)
    line.event_loop.close()
    assert (busy.checks, sound.checks) == (1, 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["mean", "truncate", "refuse"]))
def test_whatever_the_embedders_do_each_page_ends_once_and_as_it_deserves(seed, rule):
    chance, calm = random.Random(seed), threading.Event()
    embedders = [ManualEmbedder(Moody(seed + n, calm), name=f"{n}") for n in range(2)]
    line = Line(
        *embedders,
        rules=TextRules("m", long_pages=rule),
        limits=WindowLimits(pages=6),
        min_pause_s=0.0005,
        max_pause_s=0.002,
    )
    texts = ["good", "bad", "nan", "long " * 100, "longer " * 900]
    jobs = []
    for number in range(60):
        jobs += line.submit(f"{chance.choice(texts)} {number}" * chance.choice([1, 1, 2]))
        if chance.random() < 0.2:
            jobs[-1].dropped = not jobs[-1].sent
    calm.set()
    eventually(lambda: all(j.dropped or j.vector or j.refused for j in jobs) or line.crashes)
    line.settle()
    line.event_loop.close()
    assert line.crashes == []
    assert max(Counter(line.done).values()) == 1
    for job in jobs:
        if not job.dropped:
            assert (job.vector is None) == (job.refused is not None)
            is_good = job.text.startswith("good" if rule == "refuse" else ("good", "long"))
            assert not is_good or job.vector or _bad_twice(job)


def _bad_twice(job: EmbeddingJob) -> bool:
    """Whether the embedder was in the mood for a bad vector of it twice in a row."""
    return "two requests" in (job.refused or "")
