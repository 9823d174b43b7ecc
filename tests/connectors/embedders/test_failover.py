from __future__ import annotations

import asyncio
import time
from itertools import chain

import pytest

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    BatcherSetup,
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually

AWAY = TransientError("cannot connect")
OTHER = b"[0.8,0.6]"
TOLD = ModelInfo(2)


def gone(texts):
    raise AWAY


def other_space(texts):
    return [OTHER] * len(texts)


def refuses(*bad: str):
    def behave(texts):
        if set(texts) & set(bad):
            raise RejectedError("not this one")
        return other_space(texts)

    return behave


class Pair:
    """An embedder and its fallback, of which the test says who answers."""

    def __init__(self, start, fallback=other_space, **options):
        self.primary = ManualEmbedder(accept_all, name="primary")
        self.fallback = ManualEmbedder(fallback, name="fallback")
        self.fallback.model = "f"
        self.setup: BatcherSetup = start(self.primary, fallback=self.fallback, **options)

    def lose(self) -> None:
        self.primary.model_info = [AWAY]
        self.primary.behaviour = gone

    def mend(self) -> None:
        self.primary.model_info = [TOLD]
        self.primary.behaviour = accept_all

    @property
    def at_work(self):
        return self.setup.batcher.fallback_status

    def lose_to_fallback(self) -> None:
        self.lose()
        self.setup.submit("first")
        eventually(lambda: self.at_work)
        self.setup.await_done(1)

    def mend_and_wait(self) -> None:
        self.mend()
        eventually(lambda: not self.at_work)


@pytest.fixture
def start(request):
    def make(*embedders, **options) -> BatcherSetup:
        setup = BatcherSetup(*embedders, **options)
        request.addfinalizer(setup.event_loop.close)
        return setup

    return make


# --- taking over, and going back ---


def test_the_fallback_is_not_asked_before_its_time(start):
    pair = Pair(start, after_s=60.0)
    pair.lose()
    pair.setup.submit("a")
    eventually(lambda: len(pair.primary.requests) > 20)
    assert pair.fallback.checks == 0
    pair.mend()
    pair.setup.await_done(1)
    assert pair.fallback.requests == []


def test_the_fallback_embeds_once_the_embedder_has_failed_for_long_enough(start):
    pair = Pair(start, after_s=0.2)
    pair.lose()
    began = time.monotonic()
    first, second = pair.setup.submit("a", "b")
    pair.setup.await_done(2)
    assert time.monotonic() - began >= 0.2
    assert [(j.vector, j.model, j.other_space) for j in (first, second)] == [(OTHER, "f", True)] * 2
    assert pair.setup.stalls.current() == []
    assert pair.at_work.reason == "cannot connect"
    assert pair.at_work.pages == 2
    assert pair.setup.metrics.fallback_at_work._value.get() == 1


def test_an_embedder_that_is_back_while_the_fallback_is_asked_goes_on(start):
    pair = Pair(start, after_s=0.05, limits=WindowLimits(pages=2))
    pair.primary.delay_s = 0.02
    tell = pair.fallback.check

    async def check():
        pair.mend()
        await asyncio.sleep(0.2)
        return await tell()

    pair.fallback.check = check
    pair.lose()
    jobs = pair.setup.submit(*(f"{n}" for n in range(30)))
    pair.setup.await_done(30)
    assert pair.fallback.checks
    assert {job.model for job in jobs} == {"m"}


def test_an_embedder_that_is_back_embeds_again_at_once(start):
    pair = Pair(start)
    pair.lose_to_fallback()
    pair.mend_and_wait()
    (job,) = pair.setup.submit("b")
    pair.setup.await_done(2)
    assert (job.vector, job.model, job.other_space) == (VECTOR, "m", False)
    assert pair.setup.metrics.fallback_at_work._value.get() == 0
    assert pair.fallback.windows == [["first"]]


def test_the_fallback_can_be_needed_more_than_once(start):
    pair = Pair(start)
    pair.lose_to_fallback()
    pair.mend_and_wait()
    pair.lose()
    (job,) = pair.setup.submit("b")
    pair.setup.await_done(2)
    assert job.other_space
    assert pair.at_work.pages == 1


def test_one_endpoint_that_answers_is_enough_to_do_without_the_fallback(start):
    dead = ManualEmbedder(gone, name="dead")
    dead.model_info = [AWAY]
    pair = Pair(lambda sound, **options: start(sound, dead, **options))
    pair.setup.submit(*(f"{n}" for n in range(50)))
    pair.setup.await_done(50)
    assert pair.fallback.checks == 0
    pair.lose()
    pair.setup.submit("a")
    pair.setup.await_done(51)
    assert pair.fallback.windows == [["a"]]
    dead.model_info = [TOLD]
    eventually(lambda: not pair.at_work)


def test_texts_that_the_embedder_fails_on_do_not_make_it_count_as_away(start):
    """It takes a plain word: the text is to blame, and is judged as ever."""
    pair = Pair(start)

    def stumbles(texts):
        raise TransientError("EOF", status=500)

    pair.primary.behaviour = stumbles
    pair.setup.submit("poison")
    eventually(lambda: len(pair.primary.requests) > 20)
    assert pair.at_work is None
    assert pair.fallback.checks == 0


def test_an_embedder_that_never_told_about_its_model_has_a_fallback_too(start):
    pair = Pair(start, learn=False)
    pair.lose()
    (early,) = pair.setup.submit("a")
    pair.setup.await_done(1)
    assert early.other_space
    assert pair.setup.batcher.rules is None
    pair.mend_and_wait()
    assert pair.setup.batcher.rules == TextRules("m")
    (late,) = pair.setup.submit("b")
    pair.setup.await_done(2)
    assert not late.other_space


def test_the_fallback_stands_in_for_an_embedder_without_its_model(start):
    pair = Pair(start)
    missing = ConfigurationError("no such model", remedy="pull it", status=404)
    pair.primary.model_info = [missing]

    def no_model(texts):
        raise missing

    pair.primary.behaviour = no_model
    pair.setup.submit("a")
    pair.setup.await_done(1)
    assert pair.at_work.reason == "no such model"


# --- neither of them works ---


def test_while_neither_works_the_stall_names_both_with_both_remedies(start):
    pair = Pair(start)
    pair.fallback.model_info = [ConfigurationError("no credit", remedy="add credit")]
    pair.primary.model_info = [ConfigurationError("no such model", remedy="pull it")]
    pair.primary.behaviour = gone
    pair.setup.submit("a")

    def named():
        found = pair.setup.stalls.current()
        return found[0] if found and "no credit" in found[0].reason else None

    stall = eventually(named)
    assert stall.service == "embedder"
    assert stall.reason.endswith("; its fallback: no credit")
    assert "add credit" in stall.remedy
    assert pair.at_work is None
    assert pair.fallback.requests == []
    pair.mend()
    pair.setup.await_done(1)
    assert pair.setup.done == ["a"]
    eventually(lambda: not pair.setup.stalls.current())


def test_a_fallback_that_fails_at_its_work_is_waited_for_and_so_is_the_embedder(start):
    pair = Pair(start)
    pair.lose_to_fallback()
    no_credit = ConfigurationError("no credit", remedy="add credit", status=429)

    def broke(texts):
        raise no_credit

    pair.fallback.behaviour = broke
    (job,) = pair.setup.submit("a")
    (stall,) = eventually(pair.setup.stalls.current)
    assert (stall.reason, stall.remedy) == (
        "cannot connect; its fallback: no credit",
        "add credit",
    )
    pair.mend()
    pair.setup.await_done(2)
    assert not job.other_space
    eventually(lambda: not pair.setup.stalls.current())


def test_a_rate_limited_fallback_is_left_alone_for_as_long_as_it_asks(start):
    pair = Pair(start)
    pair.fallback.model_info = [TransientError("slow down", retry_after_s=0.3, status=429), TOLD]
    pair.lose()
    began = time.monotonic()
    pair.setup.submit("a")
    pair.setup.await_done(1)
    assert time.monotonic() - began >= 0.3 * 0.8
    assert pair.fallback.checks == 2


# --- texts ---


def test_pages_are_prepared_anew_for_whoever_embeds_them(start):
    page = "Word " * 200
    pair = Pair(
        start,
        rules=TextRules("m", prefix="search_document: ", lowercase=True),
        limits=WindowLimits(pages=1),
        learn=False,
    )
    pair.primary.model_info = [ModelInfo(2, context_tokens=116)]  # 300 characters
    pair.fallback.model_info = [ModelInfo(2, context_tokens=8192)]
    pair.setup.batcher.start()
    eventually(lambda: pair.setup.batcher.rules)
    pair.primary.behaviour = None
    pair.setup.submit(page)
    pair.primary.request(1)
    assert all(w[0].startswith("search_document: word") for w in pair.primary.windows)
    pair.lose()
    for request in list(pair.primary.requests):
        request.fail(AWAY)
    pair.setup.await_done(1)
    assert pair.fallback.windows == [[page]]  # whole, without prefix, as it is written


def test_a_page_of_which_pieces_were_done_is_done_whole_by_the_other_one(start):
    page = "word " * 100
    pair = Pair(start, limits=WindowLimits(pages=1), learn=False)
    pair.primary.model_info = [ModelInfo(2, context_tokens=116)]
    pair.fallback.model_info = [ModelInfo(2, context_tokens=116)]
    pair.setup.batcher.start()
    eventually(lambda: pair.setup.batcher.rules)
    pair.primary.behaviour = None
    (job,) = pair.setup.submit(page)
    pair.primary.request(0).respond()
    pair.lose()
    pair.primary.request(1).fail(AWAY)
    pair.setup.await_done(1)
    assert "".join(chain(*pair.fallback.windows)) == page
    assert job.vector == OTHER  # and no mean of both


def test_an_answer_that_comes_late_counts_only_if_nobody_else_was_asked(start):
    pair = Pair(start, fallback=None, limits=WindowLimits(pages=1))
    pair.primary.behaviour = None
    a, b = pair.setup.submit("a", "b")
    first, second = pair.primary.request(0), pair.primary.request(1)
    pair.primary.model_info = [AWAY]
    first.fail(AWAY)
    eventually(lambda: pair.at_work)
    request = pair.fallback.request(0)
    assert request.texts == ["a"]
    second.respond()
    pair.setup.await_done(1)
    assert (b.vector, b.other_space) == (VECTOR, False)
    request.respond([OTHER])
    pair.setup.await_done(2)
    assert (a.vector, a.other_space) == (OTHER, True)


# --- vectors stay apart ---


def test_vectors_of_the_fallback_are_never_served_after_the_return(start):
    pair = Pair(start, cache_pages=10, fallback_rules=TextRules("m"))  # the same name, even
    pair.lose_to_fallback()
    (again,) = pair.setup.submit("first")
    pair.setup.await_done(2)
    assert again.other_space
    assert pair.fallback.windows == [["first"]]  # remembered, while it is at work
    pair.mend_and_wait()
    (job,) = pair.setup.submit("first")
    pair.setup.await_done(3)
    assert (job.vector, job.other_space) == (VECTOR, False)


# --- pages that the fallback refuses ---


def test_a_page_that_the_fallback_refuses_waits_for_the_embedder(start):
    pair = Pair(start, fallback=refuses("odd"))
    pair.lose_to_fallback()
    odd, fine = pair.setup.submit("odd", "fine")
    pair.setup.await_done(2)
    assert fine.other_space
    eventually(lambda: pair.at_work.held == 1)
    assert (odd.vector, odd.refused, odd.sent) == (None, None, False)
    pair.mend()
    pair.setup.await_done(3)
    assert (odd.vector, odd.other_space) == (VECTOR, False)


def test_a_held_page_that_nobody_wants_any_more_is_let_go(start):
    pair = Pair(start, fallback=refuses("odd"))
    pair.lose_to_fallback()
    (odd,) = pair.setup.submit("odd")
    eventually(lambda: pair.at_work.held == 1)
    odd.dropped = True
    pair.mend_and_wait()
    pair.setup.submit("next")
    pair.setup.await_done(2)
    assert "odd" not in chain(*pair.primary.windows)


def test_a_page_too_long_for_the_fallback_alone_waits_too(start):
    def short_only(texts):
        if any(len(text) > 5 for text in texts):
            raise TextTooLongError("too long")
        return other_space(texts)

    pair = Pair(start, fallback=short_only, fallback_rules=TextRules("f", long_pages="refuse"))
    pair.lose_to_fallback()
    (long,) = pair.setup.submit("longer than five")
    eventually(lambda: pair.at_work.held == 1)
    pair.mend()
    pair.setup.await_done(2)
    assert (long.vector, long.refused) == (VECTOR, None)


# --- stopping ---


def test_a_halt_waits_for_what_the_fallback_has_in_flight(start):
    pair = Pair(start)
    pair.lose_to_fallback()
    pair.fallback.behaviour = None
    pair.setup.submit("a")
    request = pair.fallback.request(1)
    halted = pair.setup.batcher.halt()
    pair.setup.settle()
    assert not halted.done()
    request.respond([OTHER])
    halted.result(10)
    assert pair.setup.done == ["first", "a"]
