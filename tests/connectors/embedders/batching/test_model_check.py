"""When the batcher checks the model of a server, and what follows."""

from __future__ import annotations

import math

import pytest

from connectors.core.errors import RejectedError, TransientError
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.text_rules import TextRules
from tests.connectors.embedders.behaviours import UNAVAILABLE
from tests.connectors.embedders.manual_embedder import (
    ManualEmbedder,
    accept_all,
)
from tests.eventually import eventually


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
