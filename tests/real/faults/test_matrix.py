"""The matrix of tests/faults again, over a real Kafka.

The faults of one service come one after another, through one worker, so that all of them take
minutes; what can happen to Kafka itself has a test each.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.eventually import eventually
from tests.faults import test_matrix as matrix
from tests.faults.service_faults import (
    SHORT_LIMITS,
    all_are_notified_or_dead_letters,
    bulk_faults,
    check_faults,
    faults_of,
)
from tests.flow.service_recovery import assert_recovered, process_first_pages
from tests.flow.stream import DONE_S, Stream
from tests.real.kafka import RealKafka

pytestmark = [pytest.mark.real, pytest.mark.kafka, pytest.mark.timeout(400)]

BULK_FAULTS = ("refused", "429", "500", "cut", "401", "404")
RAG_FAULTS = ("refused", "hanging", "429", "500", "cut", "garbage", "HTML", "401", "404")
FROZEN_S = 8.0


# --- the services


@pytest.mark.parametrize("name", ["embedder", "stargate"])
def test_the_stream_names_each_fault_of_a_service_and_recovers(stream: Stream, name: str) -> None:
    worker = process_first_pages(stream, code=SHORT_LIMITS)
    check_faults(stream, worker, name, faults_of(stream, name))
    worker.stop()


@pytest.mark.parametrize("bulk", ["graphql", "custom"])
def test_the_stream_names_each_fault_of_bulk_writes_and_recovers(stream: Stream, bulk: str) -> None:
    worker = process_first_pages(
        stream, STARGATE_BULK=bulk, STARGATE_BULK_URL=stream.stargate.bulk_url
    )
    check_faults(stream, worker, "stargate", bulk_faults(stream, bulk, BULK_FAULTS))
    worker.stop()


def test_each_fault_of_rag_costs_its_notifications_and_nothing_else(stream: Stream) -> None:
    worker = process_first_pages(stream, RAG_TIMEOUT="1")
    for number, order in enumerate(faults_of(stream, "rag", RAG_FAULTS).values(), 1):
        undo = order()
        stream.feed(10, start=1000 * number)
        stream.wait_rows(100 + 10 * number)
        eventually(lambda: all_are_notified_or_dead_letters(stream), DONE_S)
        undo()
        eventually(lambda: not worker.stalled(), DONE_S)
    assert not [fault for fault in stream.missing() if "notified" not in fault]
    stream.wait_committed()
    worker.stop()


@pytest.mark.parametrize("name", ["embedder", "stargate", "rag"])
def test_a_slow_service_receives_all_pages(stream: Stream, name: str) -> None:
    matrix.test_a_slow_service_receives_all_pages(stream, name)


def test_an_expired_token_is_renewed(stream: Stream) -> None:
    matrix.test_an_expired_token_is_renewed(stream)


def test_a_clock_that_jumps_does_not_stop_the_stream(stream: Stream) -> None:
    matrix.test_a_clock_that_jumps_does_not_stop_the_stream(stream)


@pytest.mark.parametrize("name", ["embedder", "stargate"])
def test_a_kill_during_a_stall_loses_nothing(stream: Stream, name: str) -> None:
    matrix.test_a_kill_during_a_stall_loses_nothing(stream, name)


@pytest.mark.parametrize("name", ["embedder", "stargate"])
def test_a_stop_during_a_stall_loses_nothing(stream: Stream, name: str) -> None:
    matrix.test_a_stop_during_a_stall_loses_nothing(stream, name, "500")


# --- Kafka


@contextmanager
def _killed(kafka: RealKafka) -> Iterator[None]:
    kafka.down()
    yield
    kafka.up()


@contextmanager
def _restarted(kafka: RealKafka) -> Iterator[None]:
    kafka.server.end(signal.SIGTERM)
    yield
    kafka.up()


@contextmanager
def _frozen(kafka: RealKafka) -> Iterator[None]:
    """Connections stay, and nothing answers: what an unreachable network looks like."""
    os.kill(kafka.server.pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(FROZEN_S)  # how long it lasts is the fault
    finally:
        os.kill(kafka.server.pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [_killed, _restarted, _frozen])
def test_a_broker_that_is_away_costs_nothing(
    stream: Stream, kafka: RealKafka, fault: Callable[[RealKafka], Iterator[None]]
) -> None:
    stream.ollama.text_s = 0.02
    worker = process_first_pages(stream)
    stream.feed(200, start=100)
    stream.wait_rows(150)
    with fault(kafka):  # type: ignore[attr-defined]
        eventually(lambda: "kafka" in worker.stalled(), DONE_S)
    stream.feed(50, start=300)
    assert_recovered(stream, worker, "kafka")


def test_the_stream_waits_for_a_broker_that_is_down_at_the_start(
    stream: Stream, kafka: RealKafka
) -> None:
    matrix.test_the_stream_waits_for_a_broker_that_is_down_at_the_start(stream)


def test_a_stop_while_the_broker_is_down_loses_nothing(stream: Stream) -> None:
    matrix.test_a_stop_while_the_broker_is_down_loses_nothing(stream)


def test_dead_letters_wait_for_the_broker(stream: Stream) -> None:
    matrix.test_dead_letters_wait_for_the_broker(stream)


@pytest.mark.parametrize("store", [True, False])
def test_records_deleted_before_they_were_read_are_reported_as_lost(
    stream: Stream, store: bool
) -> None:
    matrix.test_records_deleted_before_they_were_read_are_reported_as_lost(stream, store)


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_a_recreated_topic_is_read_from_its_beginning(
    stream: Stream, kafka: RealKafka, store: bool, running: bool
) -> None:
    worker = process_first_pages(stream, store=store)
    stream.wait_committed()
    if not running:
        worker.stop()
    kafka.make_anew()
    for number in range(0, 150, 3):
        stream.write(f"page {number}", f"what the new topic says of page {number}")
    kafka.flush()
    if not running:
        worker = stream.start(store=store)
    stream.wait_complete()
    eventually(lambda: not worker.stalled(), DONE_S)
    assert not stream.dead_letters()
    stream.wait_committed()
    worker.stop()
