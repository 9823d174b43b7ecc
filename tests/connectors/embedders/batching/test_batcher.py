"""How the batcher halts, and that every page is finished whatever the embedders do."""

from __future__ import annotations

import random
import threading
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.core.errors import RejectedError, TransientError
from connectors.embedders.base import TextTooLongError
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.behaviours import UNAVAILABLE
from tests.connectors.embedders.manual_embedder import (
    VECTOR,
    BatcherSetup,
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually


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
