from __future__ import annotations

import asyncio
import socket
import time

import orjson
import pytest

from connectors.http.circuit_breaker import CircuitBreaker
from connectors.rag.notifier import RagNotifier
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.rag import Rag
from tests.connectors.stores.writers import (
    Watched,
    delete_of,
    pages,
    row_of,
    until,
    with_writer,
    write,
)


@pytest.fixture
def rag():
    with Rag() as server:
        yield server


def notifier_of(server: Rag, watched: Watched, *, url=None, token=None, timeout_s=5.0):
    return lambda http: RagNotifier(
        http, watched.stalls, watched.metrics, url or server.refresh_url, token, timeout_s
    )


def outcome(watched: Watched, name: str) -> float:
    return watched.count("gibsey_rag_notifications_total", outcome=name)


async def notify_all(writer, rows, in_flight=32):
    """Notify of rows as a write queue does: one a call, so many at once."""
    queue = list(enumerate(rows))[::-1]
    refused = {}

    async def sender():
        while queue:
            index, row = queue.pop()
            if answer := await writer.write([row]):
                refused[index] = answer[0]

    await asyncio.gather(*(sender() for _ in range(in_flight)))
    return refused


def test_a_notification_carries_the_page_and_its_vector_as_it_is(rag, watched):
    row = row_of('it\'s "odd"/\n日', 5)
    assert write(notifier_of(rag, watched), row) == {}
    assert orjson.dumps(rag.vector(row.page_id)) == row.vector
    assert outcome(watched, "delivered") == 1
    assert watched.requests("rag") == 1


def test_a_delete_is_not_notified(rag, watched):
    assert write(notifier_of(rag, watched), delete_of("a")) == {}
    assert rag.stats.requests == 0


def test_the_token_is_sent_as_bearer_and_not_shown(watched):
    with Rag(token="hush-hush") as server:

        async def use(writer):
            assert "hush-hush" not in repr(writer)
            return await writer.write([row_of("a")])

        assert with_writer(notifier_of(server, watched, token="hush-hush"), use) == {}
        assert server.counts["a"] == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_few_tries_are_made(rag, watched, status):
    rag.faults.status(status, times=2)
    assert write(notifier_of(rag, watched), row_of("a")) == {}
    assert rag.counts["a"] == 1
    assert outcome(watched, "delivered") == 1
    assert watched.stall("rag") == ""


@pytest.mark.parametrize("fault", ["cut", "drop", "garbage", "html"])
def test_what_is_no_answer_is_asked_again(rag, watched, fault):
    getattr(rag.faults, fault)(times=2)
    assert write(notifier_of(rag, watched), row_of("a")) == {}
    assert rag.counts["a"] >= 1


@pytest.mark.parametrize("body", [b"", b"OK", b'{"status":"ok"}', b"true"])
def test_what_an_accepting_service_says_is_its_own_affair(rag, watched, body):
    kind = "text/plain" if body == b"OK" else "application/json"
    rag.faults.add(Fault("reply", reply=Reply(202, body, kind)))
    assert write(notifier_of(rag, watched), row_of("a")) == {}


def test_after_a_few_tries_the_notification_is_given_up(rag, watched):
    rag.faults.status(500, b"boom")
    refused = write(notifier_of(rag, watched), row_of("a"))
    assert refused[0].reason == "rag-unreachable"
    assert "boom" in refused[0].detail
    assert rag.stats.requests == 3
    assert outcome(watched, "unreachable") == 1


def test_a_refused_notification_is_not_tried_again(rag, watched):
    refused = write(notifier_of(rag, watched), row_of("a", vector=b"[1.0]"))
    assert refused[0].reason == "refused-by-rag"
    assert "768" in refused[0].detail
    assert rag.stats.requests == 1
    assert outcome(watched, "refused") == 1
    assert watched.stall("rag") == ""


@pytest.mark.parametrize(
    ("status", "setting"),
    [(401, "RAG_AUTH_TOKEN"), (403, "RAG_AUTH_TOKEN"), (405, "RAG_REFRESH_URL")],
)
def test_a_fault_of_the_setup_names_its_setting_and_is_not_waited_for(
    rag, watched, status, setting
):
    rag.faults.status(status, b"no")
    refused = write(notifier_of(rag, watched), row_of("a"))
    assert refused[0].reason == "refused-by-rag"
    assert setting in watched.stall("rag")
    assert rag.stats.requests == 1


def test_a_single_404_is_the_pages_and_no_stall(rag, watched):
    rag.faults.status(404, b"no such page", times=1)
    refused = write(notifier_of(rag, watched), row_of("a"), row_of("b"))
    assert refused[0].reason == "refused-by-rag"
    assert list(refused) == [0]
    assert watched.stall("rag") == ""


def eager(make):
    """The same notifier, whose circuit forgives nothing."""

    def made(http):
        writer = make(http)
        writer._circuit = CircuitBreaker(grace_s=0.0)
        return writer

    return made


def test_a_wrong_address_opens_the_circuit_with_its_reason(rag, watched):
    make = eager(notifier_of(rag, watched, url=f"{rag.url}/nothing"))
    refused = with_writer(make, lambda writer: notify_all(writer, pages(300)))
    assert {refusal.reason for refusal in refused.values()} == {"refused-by-rag"}
    assert len(refused) == 300
    assert rag.stats.requests <= 40


def test_a_dead_service_costs_a_second_not_one_a_page(watched):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/refresh"
    began = time.monotonic()
    refused = with_writer(
        lambda http: RagNotifier(http, watched.stalls, watched.metrics, url),
        lambda writer: notify_all(writer, pages(5000)),
    )
    assert len(refused) == 5000
    assert {refusal.reason for refusal in refused.values()} == {"rag-unreachable"}
    assert time.monotonic() - began < 3
    assert "cannot connect" in watched.stall("rag")


def test_a_hanging_service_costs_one_time_limit(rag, watched):
    rag.faults.hang()
    began = time.monotonic()
    refused = with_writer(
        notifier_of(rag, watched, timeout_s=1.0),
        lambda writer: notify_all(writer, pages(5000)),
    )
    assert len(refused) == 5000
    assert rag.stats.requests <= 40
    assert time.monotonic() - began < 2.5


def test_requests_cut_by_a_restart_are_delivered_all_the_same(rag, watched):
    rag.faults.drop(times=32)
    refused = with_writer(notifier_of(rag, watched), lambda writer: notify_all(writer, pages(200)))
    assert refused == {}
    assert len(rag.counts) == 200


def test_a_busy_service_is_given_the_time_it_asks_for(rag, watched):
    rag.faults.status(429, headers={"Retry-After": "1"}, times=40)
    refused = with_writer(notifier_of(rag, watched), lambda writer: notify_all(writer, pages(64)))
    assert refused == {}
    assert len(rag.counts) == 64


def test_the_service_is_noticed_when_it_is_back_even_if_no_page_comes(rag, watched, monkeypatch):
    monkeypatch.setattr("connectors.rag.notifier.FIRST_PROBE_S", 0.05)
    rag.faults.status(503, b"down")

    async def use(writer):
        refused = await notify_all(writer, pages(100))
        assert len(refused) == 100
        asked = rag.stats.requests
        assert writer._circuit.is_open
        rag.faults.clear()
        await until(lambda: not writer._circuit.is_open)
        assert rag.stats.requests == asked + 1, "one probe, whatever the traffic was"
        return await notify_all(writer, pages(10))

    assert with_writer(eager(notifier_of(rag, watched)), use) == {}
    assert watched.stall("rag") == ""
    assert outcome(watched, "delivered") == 10
    assert outcome(watched, "unreachable") == 100


def test_a_service_that_failed_a_single_page_is_noticed_when_it_is_back(rag, watched, monkeypatch):
    monkeypatch.setattr("connectors.rag.notifier.FIRST_PROBE_S", 0.05)
    rag.faults.status(401, b"who are you")

    async def use(writer):
        refused = await notify_all(writer, pages(1))
        assert len(refused) == 1
        assert not writer._circuit.is_open
        assert watched.stall("rag")
        rag.faults.clear()
        await until(lambda: not watched.stall("rag"))

    with_writer(notifier_of(rag, watched), use)


def test_a_probe_never_brings_an_older_vector_behind_a_newer_one(rag, watched, monkeypatch):
    monkeypatch.setattr("connectors.rag.notifier.FIRST_PROBE_S", 0.01)
    rag.faults.status(401, b"who are you", times=1)

    async def use(writer):
        await writer.write([row_of("p", 1)])
        rag.faults.slow(0.3)
        await until(lambda: rag.stats.in_flight)  # the probe, with the older vector
        assert await writer.write([row_of("p", 2)]) == {}
        assert rag.stats.in_flight == 0

    with_writer(notifier_of(rag, watched), use)
    assert rag.counts["p"] == 2
    assert rag.vector("p") == orjson.loads(row_of("p", 2).vector)


def test_while_the_circuit_is_open_no_page_waits_for_a_probe(rag, watched, monkeypatch):
    monkeypatch.setattr("connectors.rag.notifier.FIRST_PROBE_S", 0.02)
    rag.faults.hang()

    async def use(writer):
        await notify_all(writer, pages(40))
        await until(lambda: rag.stats.in_flight)  # the probe, which hangs as the others did
        began = time.monotonic()
        refused = await notify_all(writer, pages(1000))
        return len(refused), time.monotonic() - began

    count, seconds = with_writer(notifier_of(rag, watched, timeout_s=1.0), use)
    assert count == 1000
    assert seconds < 0.5


def test_a_lone_surrogate_is_refused_without_a_request(rag, watched):
    refused = write(notifier_of(rag, watched), row_of("\ud800"))
    assert refused[0].reason == "refused-by-rag"
    assert rag.stats.requests == 0
