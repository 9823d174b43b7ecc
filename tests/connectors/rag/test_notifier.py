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


def notifier_of(server: Rag, watched: Watched, *, url=None, token=None, timeout_s=5.0, **options):
    return lambda http: RagNotifier(
        http,
        watched.stalls,
        watched.metrics,
        url or server.refresh_url,
        token,
        timeout_s,
        **options,
    )


def without_grace() -> CircuitBreaker:
    """A circuit breaker that counts every failure."""
    return CircuitBreaker(grace_s=0.0)


def outcome(watched: Watched, name: str) -> float:
    return watched.count("gibsey_rag_notifications_total", outcome=name)


async def notify_all(writer, rows, in_flight=32):
    """Notify of rows as the write queue does: one row in a call, many calls in flight."""
    queue = list(enumerate(rows))[::-1]
    rejections = {}

    async def sender():
        while queue:
            index, row = queue.pop()
            if result := await writer.write([row]):
                rejections[index] = result[0]

    await asyncio.gather(*(sender() for _ in range(in_flight)))
    return rejections


def test_a_notification_carries_the_page_and_its_vector_unchanged(rag, watched):
    row = row_of('it\'s "odd"/\n日', 5)
    assert write(notifier_of(rag, watched), row) == {}
    assert orjson.dumps(rag.vector(row.page_id)) == row.vector
    assert outcome(watched, "delivered") == 1
    assert watched.requests("rag") == 1


def test_a_delete_sends_no_notification(rag, watched):
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
def test_a_notification_is_attempted_up_to_three_times(rag, watched, status):
    rag.faults.status(status, times=2)
    assert write(notifier_of(rag, watched), row_of("a")) == {}
    assert rag.counts["a"] == 1
    assert outcome(watched, "delivered") == 1
    assert watched.stall("rag") == ""


@pytest.mark.parametrize("fault", ["cut", "drop", "garbage", "html"])
def test_an_incomplete_or_foreign_response_is_retried(rag, watched, fault):
    getattr(rag.faults, fault)(times=2)
    assert write(notifier_of(rag, watched), row_of("a")) == {}
    assert rag.counts["a"] >= 1


@pytest.mark.parametrize("body", [b"", b"OK", b'{"status":"ok"}', b"true"])
def test_the_body_of_an_accepting_response_does_not_matter(rag, watched, body):
    kind = "text/plain" if body == b"OK" else "application/json"
    rag.faults.add(Fault("reply", reply=Reply(202, body, kind)))
    assert write(notifier_of(rag, watched), row_of("a")) == {}


def test_a_notification_is_abandoned_after_three_attempts(rag, watched):
    rag.faults.status(500, b"boom")
    rejections = write(notifier_of(rag, watched), row_of("a"))
    assert rejections[0].reason == "rag-unreachable"
    assert "boom" in rejections[0].detail
    assert rag.stats.requests == 3
    assert outcome(watched, "unreachable") == 1


def test_a_rejected_notification_is_not_retried(rag, watched):
    rejections = write(notifier_of(rag, watched), row_of("a", vector=b"[1.0]"))
    assert rejections[0].reason == "refused-by-rag"
    assert "768" in rejections[0].detail
    assert rag.stats.requests == 1
    assert outcome(watched, "refused") == 1
    assert watched.stall("rag") == ""


@pytest.mark.parametrize(
    ("status", "setting"),
    [(401, "RAG_AUTH_TOKEN"), (403, "RAG_AUTH_TOKEN"), (405, "RAG_REFRESH_URL")],
)
def test_a_configuration_error_names_its_setting_and_is_not_retried(rag, watched, status, setting):
    rag.faults.status(status, b"no")
    rejections = write(notifier_of(rag, watched), row_of("a"))
    assert rejections[0].reason == "refused-by-rag"
    assert setting in watched.stall("rag")
    assert rag.stats.requests == 1


def test_a_single_404_concerns_its_page_and_is_no_stall(rag, watched):
    rag.faults.status(404, b"no such page", times=1)
    rejections = write(notifier_of(rag, watched), row_of("a"), row_of("b"))
    assert rejections[0].reason == "refused-by-rag"
    assert list(rejections) == [0]
    assert watched.stall("rag") == ""


def test_a_wrong_address_opens_the_circuit_with_its_reason(rag, watched):
    make = notifier_of(rag, watched, url=f"{rag.url}/nothing", circuit=without_grace())
    rejections = with_writer(make, lambda writer: notify_all(writer, pages(300)))
    assert {rejection.reason for rejection in rejections.values()} == {"refused-by-rag"}
    assert len(rejections) == 300
    assert rag.stats.requests <= 40


def test_a_dead_service_costs_a_second_in_total_not_one_for_each_page(watched):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}/refresh"
    started = time.monotonic()
    rejections = with_writer(
        lambda http: RagNotifier(http, watched.stalls, watched.metrics, url),
        lambda writer: notify_all(writer, pages(5000)),
    )
    assert len(rejections) == 5000
    assert {rejection.reason for rejection in rejections.values()} == {"rag-unreachable"}
    assert time.monotonic() - started < 3
    assert "cannot connect" in watched.stall("rag")


def test_a_hanging_service_costs_one_timeout(rag, watched):
    rag.faults.hang()
    started = time.monotonic()
    rejections = with_writer(
        notifier_of(rag, watched, timeout_s=1.0),
        lambda writer: notify_all(writer, pages(5000)),
    )
    assert len(rejections) == 5000
    assert rag.stats.requests <= 40
    assert time.monotonic() - started < 2.5


def test_notifications_cut_by_a_restart_are_delivered(rag, watched):
    rag.faults.drop(times=32)
    rejections = with_writer(
        notifier_of(rag, watched), lambda writer: notify_all(writer, pages(200))
    )
    assert rejections == {}
    assert len(rag.counts) == 200


def test_the_notifier_waits_as_long_as_a_busy_service_requests(rag, watched):
    rag.faults.status(429, headers={"Retry-After": "1"}, times=40)
    rejections = with_writer(
        notifier_of(rag, watched), lambda writer: notify_all(writer, pages(64))
    )
    assert rejections == {}
    assert len(rag.counts) == 64


def test_one_probe_notices_that_the_service_is_back_without_a_new_page(rag, watched):
    rag.faults.status(503, b"down")

    async def use(writer):
        rejections = await notify_all(writer, pages(100))
        assert len(rejections) == 100
        before = rag.stats.requests
        assert writer._circuit.is_open
        rag.faults.clear()
        await until(lambda: not writer._circuit.is_open)
        assert rag.stats.requests == before + 1, "one probe, whatever the traffic was"
        return await notify_all(writer, pages(10))

    assert (
        with_writer(notifier_of(rag, watched, circuit=without_grace(), first_probe_s=0.05), use)
        == {}
    )
    assert watched.stall("rag") == ""
    assert outcome(watched, "delivered") == 10
    assert outcome(watched, "unreachable") == 100


def test_a_probe_runs_after_a_single_abandoned_notification(rag, watched):
    rag.faults.status(401, b"who are you")

    async def use(writer):
        rejections = await notify_all(writer, pages(1))
        assert len(rejections) == 1
        assert not writer._circuit.is_open
        assert watched.stall("rag")
        rag.faults.clear()
        await until(lambda: not watched.stall("rag"))

    with_writer(notifier_of(rag, watched, first_probe_s=0.05), use)


def test_a_probe_never_sends_an_older_vector_after_a_newer_one(rag, watched):
    rag.faults.status(401, b"who are you", times=1)

    async def use(writer):
        await writer.write([row_of("p", 1)])
        rag.faults.slow(0.3)
        await until(lambda: rag.stats.in_flight)  # the probe, with the older vector
        assert await writer.write([row_of("p", 2)]) == {}
        assert rag.stats.in_flight == 0

    with_writer(notifier_of(rag, watched, first_probe_s=0.01), use)
    assert rag.counts["p"] == 2
    assert rag.vector("p") == orjson.loads(row_of("p", 2).vector)


def test_while_the_circuit_is_open_no_page_waits_for_a_probe(rag, watched):
    rag.faults.hang()

    async def use(writer):
        await notify_all(writer, pages(40))
        await until(lambda: rag.stats.in_flight)  # the probe, which hangs as the others did
        started = time.monotonic()
        rejections = await notify_all(writer, pages(1000))
        return len(rejections), time.monotonic() - started

    count, seconds = with_writer(notifier_of(rag, watched, timeout_s=1.0, first_probe_s=0.02), use)
    assert count == 1000
    assert seconds < 0.5


def test_a_lone_surrogate_is_rejected_without_a_request(rag, watched):
    rejections = write(notifier_of(rag, watched), row_of("\ud800"))
    assert rejections[0].reason == "refused-by-rag"
    assert rag.stats.requests == 0
