"""How the batcher finds the page that an embedder refuses."""

from __future__ import annotations

import threading

import pytest

from connectors.core.errors import RejectedError
from connectors.embedders.base import TextTooLongError
from connectors.embedders.batching.error_attribution import REFUSALS_BEFORE_CANARY
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.behaviours import at_most, nan_for, refuses
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually


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
