from __future__ import annotations

import asyncio
import time
from itertools import chain

import pytest

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.manual_embedder import VECTOR, Line, ManualEmbedder, takes_all
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

    def __init__(self, open_line, fallback=other_space, **options):
        self.primary = ManualEmbedder(takes_all, name="primary")
        self.fallback = ManualEmbedder(fallback, name="fallback")
        self.fallback.model = "f"
        self.line: Line = open_line(self.primary, fallback=self.fallback, **options)

    def lose(self) -> None:
        self.primary.model_info = [AWAY]
        self.primary.behaviour = gone

    def mend(self) -> None:
        self.primary.model_info = [TOLD]
        self.primary.behaviour = takes_all

    @property
    def at_work(self):
        return self.line.batcher.fallback_status

    def lose_to_fallback(self) -> None:
        self.lose()
        self.line.submit("first")
        eventually(lambda: self.at_work)
        self.line.await_done(1)

    def mend_and_wait(self) -> None:
        self.mend()
        eventually(lambda: not self.at_work)


@pytest.fixture
def open_line(request):
    def make(*embedders, **options) -> Line:
        line = Line(*embedders, **options)
        request.addfinalizer(line.event_loop.close)
        return line

    return make


# --- taking over, and going back ---


def test_the_fallback_is_not_asked_before_its_time(open_line):
    pair = Pair(open_line, after_s=60.0)
    pair.lose()
    pair.line.submit("a")
    eventually(lambda: len(pair.primary.asked) > 20)
    assert pair.fallback.checks == 0
    pair.mend()
    pair.line.await_done(1)
    assert pair.fallback.asked == []


def test_the_fallback_embeds_once_the_embedder_has_failed_for_long_enough(open_line):
    pair = Pair(open_line, after_s=0.2)
    pair.lose()
    began = time.monotonic()
    first, second = pair.line.submit("a", "b")
    pair.line.await_done(2)
    assert time.monotonic() - began >= 0.2
    assert [(j.vector, j.model, j.other_space) for j in (first, second)] == [(OTHER, "f", True)] * 2
    assert pair.line.stalls.current() == []
    assert pair.at_work.reason == "cannot connect"
    assert pair.at_work.pages == 2
    assert pair.line.metrics.fallback_at_work._value.get() == 1


def test_an_embedder_that_is_back_while_the_fallback_is_asked_goes_on(open_line):
    pair = Pair(open_line, after_s=0.05, limits=WindowLimits(pages=2))
    pair.primary.delay_s = 0.02
    tell = pair.fallback.check

    async def check():
        pair.mend()
        await asyncio.sleep(0.2)
        return await tell()

    pair.fallback.check = check
    pair.lose()
    jobs = pair.line.submit(*(f"{n}" for n in range(30)))
    pair.line.await_done(30)
    assert pair.fallback.checks
    assert {job.model for job in jobs} == {"m"}


def test_an_embedder_that_is_back_embeds_again_at_once(open_line):
    pair = Pair(open_line)
    pair.lose_to_fallback()
    pair.mend_and_wait()
    (job,) = pair.line.submit("b")
    pair.line.await_done(2)
    assert (job.vector, job.model, job.other_space) == (VECTOR, "m", False)
    assert pair.line.metrics.fallback_at_work._value.get() == 0
    assert pair.fallback.windows == [["first"]]


def test_the_fallback_can_be_needed_more_than_once(open_line):
    pair = Pair(open_line)
    pair.lose_to_fallback()
    pair.mend_and_wait()
    pair.lose()
    (job,) = pair.line.submit("b")
    pair.line.await_done(2)
    assert job.other_space
    assert pair.at_work.pages == 1


def test_one_endpoint_that_answers_is_enough_to_do_without_the_fallback(open_line):
    dead = ManualEmbedder(gone, name="dead")
    dead.model_info = [AWAY]
    pair = Pair(lambda sound, **options: open_line(sound, dead, **options))
    pair.line.submit(*(f"{n}" for n in range(50)))
    pair.line.await_done(50)
    assert pair.fallback.checks == 0
    pair.lose()
    pair.line.submit("a")
    pair.line.await_done(51)
    assert pair.fallback.windows == [["a"]]
    dead.model_info = [TOLD]
    eventually(lambda: not pair.at_work)


def test_texts_that_the_embedder_fails_on_do_not_make_it_count_as_away(open_line):
    """It takes a plain word: the text is to blame, and is judged as ever."""
    pair = Pair(open_line)

    def stumbles(texts):
        raise TransientError("EOF", status=500)

    pair.primary.behaviour = stumbles
    pair.line.submit("poison")
    eventually(lambda: len(pair.primary.asked) > 20)
    assert pair.at_work is None
    assert pair.fallback.checks == 0


def test_an_embedder_that_never_told_about_its_model_has_a_fallback_too(open_line):
    pair = Pair(open_line, learn=False)
    pair.lose()
    (early,) = pair.line.submit("a")
    pair.line.await_done(1)
    assert early.other_space
    assert pair.line.batcher.rules is None
    pair.mend_and_wait()
    assert pair.line.batcher.rules == TextRules("m")
    (late,) = pair.line.submit("b")
    pair.line.await_done(2)
    assert not late.other_space


def test_the_fallback_stands_in_for_an_embedder_without_its_model(open_line):
    pair = Pair(open_line)
    missing = ConfigurationError("no such model", remedy="pull it", status=404)
    pair.primary.model_info = [missing]

    def no_model(texts):
        raise missing

    pair.primary.behaviour = no_model
    pair.line.submit("a")
    pair.line.await_done(1)
    assert pair.at_work.reason == "no such model"


# --- neither of them works ---


def test_while_neither_works_the_stall_names_both_with_both_remedies(open_line):
    pair = Pair(open_line)
    pair.fallback.model_info = [ConfigurationError("no credit", remedy="add credit")]
    pair.primary.model_info = [ConfigurationError("no such model", remedy="pull it")]
    pair.primary.behaviour = gone
    pair.line.submit("a")

    def named():
        found = pair.line.stalls.current()
        return found[0] if found and "no credit" in found[0].reason else None

    stall = eventually(named)
    assert stall.service == "embedder"
    assert stall.reason.endswith("; its fallback: no credit")
    assert "add credit" in stall.remedy
    assert pair.at_work is None
    assert pair.fallback.asked == []
    pair.mend()
    pair.line.await_done(1)
    assert pair.line.done == ["a"]
    eventually(lambda: not pair.line.stalls.current())


def test_a_fallback_that_fails_at_its_work_is_waited_for_and_so_is_the_embedder(open_line):
    pair = Pair(open_line)
    pair.lose_to_fallback()
    no_credit = ConfigurationError("no credit", remedy="add credit", status=429)

    def broke(texts):
        raise no_credit

    pair.fallback.behaviour = broke
    (job,) = pair.line.submit("a")
    (stall,) = eventually(pair.line.stalls.current)
    assert (stall.reason, stall.remedy) == (
        "cannot connect; its fallback: no credit",
        "add credit",
    )
    pair.mend()
    pair.line.await_done(2)
    assert not job.other_space
    eventually(lambda: not pair.line.stalls.current())


def test_a_rate_limited_fallback_is_left_alone_for_as_long_as_it_asks(open_line):
    pair = Pair(open_line)
    pair.fallback.model_info = [TransientError("slow down", retry_after_s=0.3, status=429), TOLD]
    pair.lose()
    began = time.monotonic()
    pair.line.submit("a")
    pair.line.await_done(1)
    assert time.monotonic() - began >= 0.3 * 0.8
    assert pair.fallback.checks == 2


# --- texts ---


def test_pages_are_prepared_anew_for_whoever_embeds_them(open_line):
    page = "Word " * 200
    pair = Pair(
        open_line,
        rules=TextRules("m", prefix="search_document: ", lowercase=True),
        limits=WindowLimits(pages=1),
        learn=False,
    )
    pair.primary.model_info = [ModelInfo(2, context_tokens=116)]  # 300 characters
    pair.fallback.model_info = [ModelInfo(2, context_tokens=8192)]
    pair.line.batcher.start()
    eventually(lambda: pair.line.batcher.rules)
    pair.primary.behaviour = None
    pair.line.submit(page)
    pair.primary.request(1)
    assert all(w[0].startswith("search_document: word") for w in pair.primary.windows)
    pair.lose()
    for asked in list(pair.primary.asked):
        asked.fail(AWAY)
    pair.line.await_done(1)
    assert pair.fallback.windows == [[page]]  # whole, without prefix, as it is written


def test_a_page_of_which_pieces_were_done_is_done_whole_by_the_other_one(open_line):
    page = "word " * 100
    pair = Pair(open_line, limits=WindowLimits(pages=1), learn=False)
    pair.primary.model_info = [ModelInfo(2, context_tokens=116)]
    pair.fallback.model_info = [ModelInfo(2, context_tokens=116)]
    pair.line.batcher.start()
    eventually(lambda: pair.line.batcher.rules)
    pair.primary.behaviour = None
    (job,) = pair.line.submit(page)
    pair.primary.request(0).answer()
    pair.lose()
    pair.primary.request(1).fail(AWAY)
    pair.line.await_done(1)
    assert "".join(chain(*pair.fallback.windows)) == page
    assert job.vector == OTHER  # and no mean of both


def test_an_answer_that_comes_late_counts_only_if_nobody_else_was_asked(open_line):
    pair = Pair(open_line, fallback=None, limits=WindowLimits(pages=1))
    pair.primary.behaviour = None
    a, b = pair.line.submit("a", "b")
    first, second = pair.primary.request(0), pair.primary.request(1)
    pair.primary.model_info = [AWAY]
    first.fail(AWAY)
    eventually(lambda: pair.at_work)
    asked = pair.fallback.request(0)
    assert asked.texts == ["a"]
    second.answer()
    pair.line.await_done(1)
    assert (b.vector, b.other_space) == (VECTOR, False)
    asked.answer([OTHER])
    pair.line.await_done(2)
    assert (a.vector, a.other_space) == (OTHER, True)


# --- vectors stay apart ---


def test_vectors_of_the_fallback_are_never_served_after_the_return(open_line):
    pair = Pair(open_line, cache_pages=10, fallback_rules=TextRules("m"))  # the same name, even
    pair.lose_to_fallback()
    (again,) = pair.line.submit("first")
    pair.line.await_done(2)
    assert again.other_space
    assert pair.fallback.windows == [["first"]]  # remembered, while it is at work
    pair.mend_and_wait()
    (job,) = pair.line.submit("first")
    pair.line.await_done(3)
    assert (job.vector, job.other_space) == (VECTOR, False)


# --- pages that the fallback refuses ---


def test_a_page_that_the_fallback_refuses_waits_for_the_embedder(open_line):
    pair = Pair(open_line, fallback=refuses("odd"))
    pair.lose_to_fallback()
    odd, fine = pair.line.submit("odd", "fine")
    pair.line.await_done(2)
    assert fine.other_space
    eventually(lambda: pair.at_work.held == 1)
    assert (odd.vector, odd.refused, odd.sent) == (None, None, False)
    pair.mend()
    pair.line.await_done(3)
    assert (odd.vector, odd.other_space) == (VECTOR, False)


def test_a_held_page_that_nobody_wants_any_more_is_let_go(open_line):
    pair = Pair(open_line, fallback=refuses("odd"))
    pair.lose_to_fallback()
    (odd,) = pair.line.submit("odd")
    eventually(lambda: pair.at_work.held == 1)
    odd.dropped = True
    pair.mend_and_wait()
    pair.line.submit("next")
    pair.line.await_done(2)
    assert "odd" not in chain(*pair.primary.windows)


def test_a_page_too_long_for_the_fallback_alone_waits_too(open_line):
    def short_only(texts):
        if any(len(text) > 5 for text in texts):
            raise TextTooLongError("too long")
        return other_space(texts)

    pair = Pair(open_line, fallback=short_only, fallback_rules=TextRules("f", long_pages="refuse"))
    pair.lose_to_fallback()
    (long,) = pair.line.submit("longer than five")
    eventually(lambda: pair.at_work.held == 1)
    pair.mend()
    pair.line.await_done(2)
    assert (long.vector, long.refused) == (VECTOR, None)


# --- stopping ---


def test_a_halt_waits_for_what_the_fallback_has_in_flight(open_line):
    pair = Pair(open_line)
    pair.lose_to_fallback()
    pair.fallback.behaviour = None
    pair.line.submit("a")
    asked = pair.fallback.request(1)
    halted = pair.line.batcher.halt()
    pair.line.settle()
    assert not halted.done()
    asked.answer([OTHER])
    halted.result(10)
    assert pair.line.done == ["first", "a"]
