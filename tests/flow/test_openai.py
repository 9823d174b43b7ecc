"""EMBED_PROVIDER=openai in the complete stream: its limits, and a vector for each page."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gibsey_embedder.fakes.openai import API_KEY, OpenAI, Rate
from tests.eventually import eventually
from tests.flow.openai_vectors import of_openai
from tests.flow.stream import DONE_S, Stream
from tests.flow.worker import Worker

LARGE_WINDOWS = {"WINDOW_PAGES": "2048", "WINDOW_CHARS": "10000000"}
QUOTA_PAUSE_OF_1_S = "from connectors.embedders.openai import errors; errors.QUOTA_PAUSE_S = 1.0"


def start(stream: Stream, openai: OpenAI, *, code: str = "", **settings: Any) -> Worker:
    return stream.start(
        code=code,
        EMBED_PROVIDER="openai",
        OPENAI_URL=openai.openai_url,
        OPENAI_API_KEY=API_KEY,
        **settings,
    )


def wait_right(stream: Stream, openai: OpenAI) -> None:
    """Wait until each page has OpenAI's vector of its text, without dead letters."""
    eventually(lambda: of_openai(stream, openai) == set(stream.texts), DONE_S)
    stream.wait_committed()
    assert not stream.dead_letters()
    assert not stream.ollama.stats.requests


def at_once(stream: Stream, openai: OpenAI, pages: int, **settings: str) -> Worker:
    """Start with a backlog, so that windows are as large as possible."""
    openai.refuse()
    worker = start(stream, openai, **settings)
    eventually(lambda: worker.has_begun and worker.status()["tasks"]["open_pages"] == pages, DONE_S)
    openai.accept()
    return worker


def test_a_window_beyond_the_limits_of_a_request_is_split(
    stream: Stream, fake_openai: OpenAI
) -> None:
    """Forty pages of 8,000 tokens between short ones, with vectors out of order."""
    for number in range(40):
        stream.write(f"long {number}", f"page{number} " + "w " * 7990)
    stream.feed(1000)
    worker = at_once(stream, fake_openai, 1040, **LARGE_WINDOWS)
    wait_right(stream, fake_openai)
    windows = worker.metric("gibsey_window_pages_count")
    assert len(fake_openai.batches) - 1 > windows, "no window went in several requests"
    assert not fake_openai.rejected
    worker.stop()


@pytest.mark.parametrize(("settings", "at_once"), [({}, 4), ({"EMBED_CONCURRENCY": "7"}, 7)])
def test_several_requests_are_in_flight(
    stream: Stream, settings: dict[str, str], at_once: int
) -> None:
    with OpenAI(request_s=0.1) as server:
        stream.feed(300)
        worker = start(stream, server, WINDOW_PAGES="10", **settings)
        wait_right(stream, server)
        assert server.stats.max_in_flight == at_once
        assert worker.status()["stages"]["embedder"]["slots"] == at_once
        worker.stop()


def test_a_server_with_smaller_limits_gets_smaller_requests(stream: Stream) -> None:
    with OpenAI(max_inputs=20, max_request_tokens=100) as server:
        stream.feed(200)
        worker = at_once(stream, server, 200)
        wait_right(stream, server)
        assert server.rejected
        worker.stop()


def test_no_request_is_sent_before_a_rate_limit_is_over(
    stream: Stream, fake_openai: OpenAI
) -> None:
    rate = fake_openai.rate = Rate(requests=4, seconds=0.5)
    stream.feed(300)
    worker = start(stream, fake_openai, WINDOW_PAGES="10")
    wait_right(stream, fake_openai)
    assert rate.periods > 5
    assert 0 < rate.rejected <= 4 * rate.periods, "four are in flight when the limit is met"
    worker.stop()


def test_an_account_without_credit_gets_few_requests_until_it_has_credit(
    stream: Stream, fake_openai: OpenAI
) -> None:
    worker = start(stream, fake_openai, code=QUOTA_PAUSE_OF_1_S)
    stream.feed(50)
    wait_right(stream, fake_openai)
    fake_openai.exhaust()
    requests, began = fake_openai.stats.requests, time.monotonic()
    stream.feed(50, start=100)
    worker.wait_for(
        r"waiting +service=embedder reason=.*exceeded your current quota.*"
        r"remedy=\"add credit to the account, or set OPENAI_API_KEY"
    )
    eventually(lambda: fake_openai.stats.requests >= requests + 6, DONE_S)
    assert time.monotonic() - began > 1.5, "four may be in flight; then it is one a pause"
    fake_openai.faults.clear()
    wait_right(stream, fake_openai)
    assert API_KEY not in worker.log
    worker.stop()
