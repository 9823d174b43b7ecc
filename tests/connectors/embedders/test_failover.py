from __future__ import annotations

import asyncio
import time
from itertools import chain

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

UNAVAILABLE = TransientError("cannot connect")
OTHER = b"[0.8,0.6]"
MODEL_INFO = ModelInfo(2)


def fail(texts):
    raise UNAVAILABLE


def other_space(texts):
    return [OTHER] * len(texts)


def refuses(*bad: str):
    def behave(texts):
        if set(texts) & set(bad):
            raise RejectedError("not this one")
        return other_space(texts)

    return behave


class Pair:
    """An embedder and its fallback; the test decides which of them works."""

    def __init__(self, start, fallback=other_space, **options):
        self.primary = ManualEmbedder(accept_all, name="primary")
        self.fallback = ManualEmbedder(fallback, name="fallback")
        self.fallback.model = "f"
        self.setup: BatcherSetup = start(self.primary, fallback=self.fallback, **options)

    def stop_primary(self) -> None:
        self.primary.model_info = [UNAVAILABLE]
        self.primary.behaviour = fail

    def recover(self) -> None:
        self.primary.model_info = [MODEL_INFO]
        self.primary.behaviour = accept_all

    @property
    def fallback_status(self):
        return self.setup.batcher.fallback_status

    def fail_over(self) -> None:
        self.stop_primary()
        self.setup.submit("first")
        eventually(lambda: self.fallback_status)
        self.setup.await_done(1)

    def recover_and_wait(self) -> None:
        self.recover()
        eventually(lambda: not self.fallback_status)


# --- takeover and return ---


def test_the_fallback_receives_no_request_before_its_time(start):
    pair = Pair(start, after_s=60.0)
    pair.stop_primary()
    pair.setup.submit("a")
    eventually(lambda: len(pair.primary.requests) > 20)
    assert pair.fallback.checks == 0
    pair.recover()
    pair.setup.await_done(1)
    assert pair.fallback.requests == []


def test_the_fallback_embeds_once_the_embedder_has_failed_for_long_enough(start):
    pair = Pair(start, after_s=0.2)
    pair.stop_primary()
    began = time.monotonic()
    first, second = pair.setup.submit("a", "b")
    pair.setup.await_done(2)
    assert time.monotonic() - began >= 0.2
    assert [(j.vector, j.model, j.other_space) for j in (first, second)] == [(OTHER, "f", True)] * 2
    assert pair.setup.stalls.current() == []
    assert pair.fallback_status.reason == "cannot connect"
    assert pair.fallback_status.pages == 2
    assert pair.setup.metrics.fallback_at_work._value.get() == 1


def test_an_embedder_that_recovers_while_the_fallback_is_probed_continues(start):
    pair = Pair(start, after_s=0.05, limits=WindowLimits(pages=2))
    pair.primary.delay_s = 0.02
    check_model = pair.fallback.check

    async def check():
        pair.recover()
        await asyncio.sleep(0.2)
        return await check_model()

    pair.fallback.check = check
    pair.stop_primary()
    jobs = pair.setup.submit(*(f"{n}" for n in range(30)))
    pair.setup.await_done(30)
    assert pair.fallback.checks
    assert {job.model for job in jobs} == {"m"}


def test_an_embedder_that_recovers_embeds_again_at_once(start):
    pair = Pair(start)
    pair.fail_over()
    pair.recover_and_wait()
    (job,) = pair.setup.submit("b")
    pair.setup.await_done(2)
    assert (job.vector, job.model, job.other_space) == (VECTOR, "m", False)
    assert pair.setup.metrics.fallback_at_work._value.get() == 0
    assert pair.fallback.windows == [["first"]]


def test_the_fallback_can_be_needed_more_than_once(start):
    pair = Pair(start)
    pair.fail_over()
    pair.recover_and_wait()
    pair.stop_primary()
    (job,) = pair.setup.submit("b")
    pair.setup.await_done(2)
    assert job.other_space
    assert pair.fallback_status.pages == 1


def test_one_working_endpoint_makes_the_fallback_unnecessary(start):
    dead = ManualEmbedder(fail, name="dead")
    dead.model_info = [UNAVAILABLE]
    pair = Pair(lambda sound, **options: start(sound, dead, **options))
    pair.setup.submit(*(f"{n}" for n in range(50)))
    pair.setup.await_done(50)
    assert pair.fallback.checks == 0
    pair.stop_primary()
    pair.setup.submit("a")
    pair.setup.await_done(51)
    assert pair.fallback.windows == [["a"]]
    dead.model_info = [MODEL_INFO]
    eventually(lambda: not pair.fallback_status)


def test_an_embedder_that_fails_on_some_texts_is_not_unavailable(start):
    """The embedder accepts a canary, so the text is the cause."""
    pair = Pair(start)

    def stumbles(texts):
        raise TransientError("EOF", status=500)

    pair.primary.behaviour = stumbles
    pair.setup.submit("poison")
    eventually(lambda: len(pair.primary.requests) > 20)
    assert pair.fallback_status is None
    assert pair.fallback.checks == 0


def test_an_embedder_that_never_described_its_model_has_a_fallback_too(start):
    pair = Pair(start, learn=False)
    pair.stop_primary()
    (early,) = pair.setup.submit("a")
    pair.setup.await_done(1)
    assert early.other_space
    assert pair.setup.batcher.rules is None
    pair.recover_and_wait()
    assert pair.setup.batcher.rules == TextRules("m")
    (late,) = pair.setup.submit("b")
    pair.setup.await_done(2)
    assert not late.other_space


def test_the_fallback_replaces_an_embedder_without_its_model(start):
    pair = Pair(start)
    missing = ConfigurationError("no such model", remedy="pull it", status=404)
    pair.primary.model_info = [missing]

    def no_model(texts):
        raise missing

    pair.primary.behaviour = no_model
    pair.setup.submit("a")
    pair.setup.await_done(1)
    assert pair.fallback_status.reason == "no such model"


# --- neither of them works ---


def test_if_neither_pool_works_the_stall_names_both_with_both_remedies(start):
    pair = Pair(start)
    pair.fallback.model_info = [ConfigurationError("no credit", remedy="add credit")]
    pair.primary.model_info = [ConfigurationError("no such model", remedy="pull it")]
    pair.primary.behaviour = fail
    pair.setup.submit("a")

    def named():
        found = pair.setup.stalls.current()
        return found[0] if found and "no credit" in found[0].reason else None

    stall = eventually(named)
    assert stall.service == "embedder"
    assert stall.reason.endswith("; its fallback: no credit")
    assert "add credit" in stall.remedy
    assert pair.fallback_status is None
    assert pair.fallback.requests == []
    pair.recover()
    pair.setup.await_done(1)
    assert pair.setup.done == ["a"]
    eventually(lambda: not pair.setup.stalls.current())


def test_if_the_fallback_fails_too_the_stream_waits_for_either_pool(start):
    pair = Pair(start)
    pair.fail_over()
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
    pair.recover()
    pair.setup.await_done(2)
    assert not job.other_space
    eventually(lambda: not pair.setup.stalls.current())


def test_a_rate_limited_fallback_is_paused_for_its_retry_after(start):
    pair = Pair(start)
    pair.fallback.model_info = [
        TransientError("slow down", retry_after_s=0.3, status=429),
        MODEL_INFO,
    ]
    pair.stop_primary()
    began = time.monotonic()
    pair.setup.submit("a")
    pair.setup.await_done(1)
    assert time.monotonic() - began >= 0.3 * 0.8
    assert pair.fallback.checks == 2


# --- texts ---


def test_pages_are_prepared_again_for_the_pool_that_embeds_them(start):
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
    pair.stop_primary()
    for request in list(pair.primary.requests):
        request.fail(UNAVAILABLE)
    pair.setup.await_done(1)
    assert pair.fallback.windows == [[page]]  # whole, without the prefix, in its own case


def test_a_page_with_some_finished_chunks_is_embedded_whole_by_the_other_pool(start):
    page = "word " * 100
    pair = Pair(start, limits=WindowLimits(pages=1), learn=False)
    pair.primary.model_info = [ModelInfo(2, context_tokens=116)]
    pair.fallback.model_info = [ModelInfo(2, context_tokens=116)]
    pair.setup.batcher.start()
    eventually(lambda: pair.setup.batcher.rules)
    pair.primary.behaviour = None
    (job,) = pair.setup.submit(page)
    pair.primary.request(0).respond()
    pair.stop_primary()
    pair.primary.request(1).fail(UNAVAILABLE)
    pair.setup.await_done(1)
    assert "".join(chain(*pair.fallback.windows)) == page
    assert job.vector == OTHER  # not a mean of both


def test_a_late_response_counts_only_if_no_other_pool_embeds_the_page(start):
    pair = Pair(start, fallback=None, limits=WindowLimits(pages=1))
    pair.primary.behaviour = None
    a, b = pair.setup.submit("a", "b")
    first, second = pair.primary.request(0), pair.primary.request(1)
    pair.primary.model_info = [UNAVAILABLE]
    first.fail(UNAVAILABLE)
    eventually(lambda: pair.fallback_status)
    request = pair.fallback.request(0)
    assert request.texts == ["a"]
    second.respond()
    pair.setup.await_done(1)
    assert (b.vector, b.other_space) == (VECTOR, False)
    request.respond([OTHER])
    pair.setup.await_done(2)
    assert (a.vector, a.other_space) == (OTHER, True)


# --- vectors of different models ---


def test_vectors_of_the_fallback_are_never_used_once_the_embedder_is_back(start):
    pair = Pair(start, cache_pages=10, fallback_rules=TextRules("m"))  # even the same model name
    pair.fail_over()
    (again,) = pair.setup.submit("first")
    pair.setup.await_done(2)
    assert again.other_space
    assert pair.fallback.windows == [["first"]]  # cached while the fallback embeds
    pair.recover_and_wait()
    (job,) = pair.setup.submit("first")
    pair.setup.await_done(3)
    assert (job.vector, job.other_space) == (VECTOR, False)


# --- pages that the fallback refuses ---


def test_a_page_that_the_fallback_refuses_waits_for_the_embedder(start):
    pair = Pair(start, fallback=refuses("odd"))
    pair.fail_over()
    odd, fine = pair.setup.submit("odd", "fine")
    pair.setup.await_done(2)
    assert fine.other_space
    eventually(lambda: pair.fallback_status.held == 1)
    assert (odd.vector, odd.refused, odd.sent) == (None, None, False)
    pair.recover()
    pair.setup.await_done(3)
    assert (odd.vector, odd.other_space) == (VECTOR, False)


def test_a_held_page_that_is_dropped_is_removed(start):
    pair = Pair(start, fallback=refuses("odd"))
    pair.fail_over()
    (odd,) = pair.setup.submit("odd")
    eventually(lambda: pair.fallback_status.held == 1)
    odd.dropped = True
    pair.recover_and_wait()
    pair.setup.submit("next")
    pair.setup.await_done(2)
    assert "odd" not in chain(*pair.primary.windows)


def test_a_page_that_is_too_long_only_for_the_fallback_waits_too(start):
    def short_only(texts):
        if any(len(text) > 5 for text in texts):
            raise TextTooLongError("too long")
        return other_space(texts)

    pair = Pair(start, fallback=short_only, fallback_rules=TextRules("f", long_pages="refuse"))
    pair.fail_over()
    (long,) = pair.setup.submit("longer than five")
    eventually(lambda: pair.fallback_status.held == 1)
    pair.recover()
    pair.setup.await_done(2)
    assert (long.vector, long.refused) == (VECTOR, None)


# --- halt ---


def test_a_halt_waits_for_the_requests_of_the_fallback(start):
    pair = Pair(start)
    pair.fail_over()
    pair.fallback.behaviour = None
    pair.setup.submit("a")
    request = pair.fallback.request(1)
    halted = pair.setup.batcher.halt()
    pair.setup.settle()
    assert not halted.done()
    request.respond([OTHER])
    halted.result(10)
    assert pair.setup.done == ["first", "a"]
