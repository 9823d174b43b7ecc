"""Every fault of every service: the stream reports it, recovers, and loses nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gibsey_embedder.fakes.kafka import MockKafka
from tests.eventually import eventually
from tests.faults.service_faults import (
    FAULTS,
    WRONG_VECTORS,
    all_are_notified_or_dead_letters,
    bulk_faults,
    check_faults,
    fake_of,
    wait_reported,
)
from tests.flow.service_recovery import assert_recovered, process_first_pages
from tests.flow.stream import DONE_S, Stream

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["embedder", "stargate"])
def test_the_stream_reports_a_fault_and_recovers(stream: Stream, name: str, fault: str) -> None:
    worker = process_first_pages(stream)
    undo = FAULTS[fault](fake_of(stream, name))
    stream.feed(100, start=100)
    wait_reported(worker, name)
    undo()
    assert_recovered(stream, worker, name)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_rag_costs_only_its_notifications(stream: Stream, fault: str) -> None:
    worker = process_first_pages(stream, RAG_TIMEOUT="1")
    undo = FAULTS[fault](stream.rag)
    stream.feed(50, start=100)
    stream.wait_rows(150)
    if fault == "404":  # a few may be about pages that the service does not know
        worker.wait_for("dead letter .*refused-by-rag .*answered 404")
    else:
        wait_reported(worker, "rag")
    eventually(lambda: worker.status()["lag"]["total"] == 0, DONE_S)
    undo()
    if fault != "404":
        worker.wait_for(r"answers again +service=rag")
    stream.feed(20, start=200)
    stream.wait_rows(170)
    eventually(lambda: all_are_notified_or_dead_letters(stream), DONE_S)
    if fault != "404":
        assert all(stream.rag.vector(f"page {number}") for number in range(200, 220))
    reasons = {dead_letter.headers["reason"].decode() for dead_letter in stream.dead_letters()}
    assert reasons <= {"rag-unreachable", "refused-by-rag"}
    assert not [fault for fault in stream.missing() if "notified" not in fault]
    stream.wait_committed()
    worker.stop()


@pytest.mark.parametrize("bulk", ["graphql", "custom"])
def test_the_stream_reports_faults_of_bulk_writes_and_recovers(stream: Stream, bulk: str) -> None:
    worker = process_first_pages(
        stream, STARGATE_BULK=bulk, STARGATE_BULK_URL=stream.stargate.bulk_url
    )
    check_faults(stream, worker, "stargate", bulk_faults(stream, bulk))
    worker.stop()


@pytest.mark.parametrize("name", ["embedder", "stargate", "rag"])
def test_a_slow_service_receives_all_pages(stream: Stream, name: str) -> None:
    worker = process_first_pages(stream)
    service = fake_of(stream, name)
    service.faults.slow(1.0)
    stream.feed(100, start=100)
    stream.wait_complete()
    service.faults.clear()
    assert not stream.dead_letters()
    assert set(stream.rag.counts.values()) == {1}
    stream.wait_committed()
    worker.stop()


@pytest.mark.parametrize("quirk", WRONG_VECTORS)
def test_the_stream_waits_for_an_embedder_that_returns_only_wrong_vectors(
    stream: Stream, quirk: str
) -> None:
    worker = process_first_pages(stream)
    stream.ollama.add_quirk(quirk)  # type: ignore[arg-type]
    stream.feed(100, start=100)
    wait_reported(worker, "embedder")
    stream.ollama.clear_quirks()
    assert_recovered(stream, worker, "embedder")


@pytest.mark.parametrize("quirk", ["nan", "nan_literal", "infinity", "zero", "rejected"])
def test_a_page_without_a_vector_does_not_affect_its_neighbours(stream: Stream, quirk: str) -> None:
    stream.ollama.add_quirk(quirk, "number 77")  # type: ignore[arg-type]
    stream.feed(100)
    stream.start()
    (dead_letter,) = stream.wait_dead_letters(1)
    assert dead_letter.headers["reason"] == b"refused-by-embedder"
    assert dead_letter.key == b"page 77"
    del stream.texts["page 77"]
    stream.wait_complete()
    assert len(stream.dead_letters()) == 1
    stream.wait_committed()


def test_a_missing_model_is_reported_until_it_is_pulled(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.ollama.remove("nomic-embed-text")
    stream.feed(100, start=100)
    worker.wait_for(r"waiting +service=embedder .*ollama pull nomic-embed-text")
    stream.ollama.pull("nomic-embed-text")
    assert_recovered(stream, worker, "embedder")


def test_a_model_that_crashes_repeatedly_loses_no_page(stream: Stream) -> None:
    stream.ollama.text_s = 0.01
    stream.start()
    stream.feed(300)
    for rows in (50, 120, 200):
        stream.wait_rows(rows)
        stream.ollama.kill_runner(0.3)
    stream.wait_complete()
    assert not stream.dead_letters()


def test_a_missing_table_is_reported_with_its_cql_until_it_is_created(stream: Stream) -> None:
    worker = process_first_pages(stream)
    table = stream.stargate.drop_table("page_vectors")
    stream.feed(50, start=100)
    worker.wait_for(r"waiting +service=stargate .*CREATE TABLE gibsey.page_vectors")
    stream.stargate.add_table(table)
    assert_recovered(stream, worker, "stargate")


@pytest.mark.parametrize("bulk", ["rest", "graphql"])
def test_a_missing_model_column_is_reported_until_it_is_added(stream: Stream, bulk: str) -> None:
    column: dict[str, Any] = {"STARGATE_MODEL_COLUMN": "model", "STARGATE_BULK": bulk}
    worker = stream.start(**column, STARGATE_GRAPHQL_URL=stream.stargate.graphql_url)
    stream.feed(50)
    worker.wait_for(
        r"waiting +service=stargate .*gibsey.page_vectors has no column model.*"
        r"ALTER TABLE gibsey.page_vectors ADD model text;"
    )
    stream.stargate.vectors.columns["model"] = "text"
    assert_recovered(stream, worker, "stargate")
    assert {stream.stargate.vectors.text(page, "model") for page in stream.texts} == {
        "nomic-embed-text"
    }


def test_an_expired_token_is_renewed(stream: Stream) -> None:
    stream.stargate.tokens.fixed = None
    worker = process_first_pages(
        stream,
        STARGATE_AUTH_TOKEN="",
        STARGATE_USERNAME="cassandra",
        STARGATE_PASSWORD="cassandra",
        STARGATE_AUTH_URL=stream.stargate.auth_url,
    )
    for start in range(100, 400, 100):
        stream.stargate.tokens.expire()
        stream.feed(100, start=start)
        stream.wait_complete()
    assert stream.stargate.tokens.issued >= 4
    assert not stream.dead_letters()
    worker.stop()


# --- Kafka


def test_a_broker_outage_loses_nothing(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.feed(50, start=100)
    stream.kafka.down()
    wait_reported(worker, "kafka")
    stream.kafka.up()
    stream.feed(50, start=200)
    assert_recovered(stream, worker, "kafka")


def test_the_stream_waits_for_a_broker_that_is_down_at_the_start(stream: Stream) -> None:
    stream.feed(50)
    stream.kafka.down()
    worker = stream.start()
    wait_reported(worker, "kafka")
    stream.kafka.up()
    assert_recovered(stream, worker, "kafka")


def test_a_slow_broker_delivers_everything(stream: Stream, mock_kafka: MockKafka) -> None:
    mock_kafka.slow(300)
    stream.feed(100)
    worker = stream.start()
    stream.wait_complete(120)
    mock_kafka.slow(0)
    worker.stop()


def _open_pages(stream: Stream) -> int:
    return int(stream.workers[-1].status()["tasks"]["open_pages"])


def test_dead_letters_wait_for_the_broker(stream: Stream) -> None:
    process_first_pages(stream)
    stream.ollama.faults.slow(3.0, when=lambda request: request.mentions("number 10"))
    stream.ollama.add_quirk("rejected", "number 105")
    stream.feed(10, start=100)
    eventually(lambda: stream.ollama.stats.faults, DONE_S)
    eventually(lambda: len(stream.stargate.vectors.rows) + _open_pages(stream) == 110, DONE_S)
    stream.kafka.down()
    wait_reported(stream.workers[-1], "dead-letters")
    stream.kafka.up()
    stream.wait_rows(109)
    (dead_letter,) = stream.wait_dead_letters(1)
    assert dead_letter.key == b"page 105"
    stream.wait_committed()


@pytest.mark.parametrize("store", [True, False])
def test_records_deleted_before_they_were_read_are_reported_as_lost(
    stream: Stream, store: bool
) -> None:
    worker = stream.start(store=store)
    for number in range(30):
        stream.raw(b'{"page_id":"old","body":"text %d","op":"c"}' % number)
    stream.kafka.flush()
    stream.wait_rows(1)
    stream.wait_committed()
    worker.stop()
    for number in range(30):
        stream.raw(b'{"page_id":"gone %d","body":"gone","op":"c"}' % number)
    stream.kafka.flush()
    stream.kafka.delete_records(stream.topic, 0, 60)
    worker = stream.start(store=store)
    worker.wait_for(r"position lost.* partition=0 ")
    stream.feed(30)
    stream.wait_complete()
    assert "gibsey_offset_resets_total 1.0" in worker.metrics()
    stream.wait_committed()


# --- stops and kills during a fault


@pytest.mark.parametrize("fault", ["refused", "hanging", "500", "401"])
@pytest.mark.parametrize("name", ["embedder", "stargate"])
def test_a_stop_during_a_stall_loses_nothing(stream: Stream, name: str, fault: str) -> None:
    worker = process_first_pages(stream)
    service = fake_of(stream, name)
    undo = FAULTS[fault](service)
    stream.feed(100, start=100)
    if fault == "hanging":  # it is reported only after its timeout
        eventually(lambda: service.stats.faults, DONE_S)
    else:
        wait_reported(worker, name)
    worker.signal()
    assert worker.wait(40) == 0
    undo()
    stream.start(4)
    stream.wait_complete()
    assert not stream.dead_letters()
    stream.wait_committed()


@pytest.mark.parametrize("name", ["embedder", "stargate"])
def test_a_kill_during_a_stall_loses_nothing(stream: Stream, name: str) -> None:
    worker = process_first_pages(stream)
    undo = FAULTS["500"](fake_of(stream, name))
    stream.feed(100, start=100)
    wait_reported(worker, name)
    worker.kill()
    undo()
    stream.start(2)
    stream.wait_complete()
    assert not stream.dead_letters()
    stream.wait_committed()


def test_a_stop_while_the_broker_is_down_loses_nothing(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.feed(50, start=100)
    stream.kafka.down()
    wait_reported(worker, "kafka")
    worker.signal()
    assert worker.wait(40) == 0
    stream.kafka.up()
    stream.start()
    stream.wait_complete()
    stream.wait_committed()


CLOCK_JUMPS = """
import itertools, time
real, calls = time.time, itertools.count()
time.time = lambda: real() + (3600, -3600, 0)[next(calls) // 50 % 3]
"""


def test_a_clock_that_jumps_does_not_stop_the_stream(stream: Stream) -> None:
    worker = stream.start(code=CLOCK_JUMPS)
    stream.feed(100)
    stream.wait_complete()
    stream.ollama.faults.status(500)
    stream.feed(50, start=100)
    worker.wait_for(r"waiting +service=embedder ")
    stream.ollama.faults.clear()
    stream.wait_complete()
    assert not stream.dead_letters()
    worker.stop()
    assert not re.search("fatal|Traceback", worker.log)


def test_a_second_signal_ends_the_program_at_once_and_nothing_is_lost(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.stargate.faults.hang()
    stream.feed(50, start=100)
    eventually(lambda: stream.stargate.stats.faults, DONE_S)
    worker.signal()
    worker.wait_for("stopping")
    worker.signal()
    assert worker.wait(5) != 0
    stream.stargate.faults.clear()
    stream.start()
    stream.wait_complete()
