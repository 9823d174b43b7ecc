"""How the batcher embeds pages that are longer than the context."""

from __future__ import annotations

from itertools import chain

import pytest

from connectors.core.errors import RejectedError
from connectors.embedders.base import ModelInfo
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.behaviours import UNAVAILABLE, at_most
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    ManualEmbedder,
    accept_all,
)


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
