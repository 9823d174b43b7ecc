from __future__ import annotations

import time

from confluent_kafka import OFFSET_BEGINNING, Message

from connectors.delivery.backpressure import READ_RECORDS
from connectors.kafka.source import SLOTS, STATE_VERSION
from tests.connectors.kafka.slots import TOPIC, Process, commit, fill
from tests.eventually import eventually


def test_a_resume_continues_after_the_last_record_that_was_emitted(mock_kafka):
    fill(mock_kafka, 300)
    with Process(mock_kafka.broker) as first:
        first.read(300)
        states = first.states()
    fill(mock_kafka, 5)
    with Process(mock_kafka.broker, states=states) as second:
        second.read(5)
        assert second.offsets() == [(0, n) for n in range(300, 305)]
        assert second.resets == 0


def test_without_a_state_reading_starts_at_the_committed_offset_else_at_the_earliest(mock_kafka):
    fill(mock_kafka, 10, partition=0)
    fill(mock_kafka, 10, partition=1)
    commit(mock_kafka, "gibsey-embedder", {0: 7})
    with Process(mock_kafka.broker) as process:
        process.read(13)
        assert process.offsets() == [(0, 7), (0, 8), (0, 9)] + [(1, n) for n in range(10)]
        assert process.resets == 0


def test_the_snapshot_counts_more_than_the_committed_offset(mock_kafka):
    fill(mock_kafka, 10)
    commit(mock_kafka, "gibsey-embedder", {0: 2})
    state = (STATE_VERSION, SLOTS, "", True, {0: (8, 3)})
    with Process(mock_kafka.broker, states={"slot-00": state}) as process:
        process.read(2)
        assert process.offsets() == [(0, 8), (0, 9)]
        assert {record.era for record in process.records} == {3}


def test_deleted_records_are_skipped_with_an_error_and_a_count(mock_kafka, capsys):
    fill(mock_kafka, 50)
    mock_kafka.delete_records(TOPIC, 0, 30)
    state = (STATE_VERSION, SLOTS, "", True, {0: (10, 0)})
    with Process(mock_kafka.broker, states={"slot-00": state}) as process:
        process.read(20)
        assert process.offsets() == [(0, n) for n in range(30, 50)]
        assert {record.era for record in process.records} == {1}
        assert process.resets == 1
    output = capsys.readouterr()
    assert "position lost" in output.out + output.err
    assert "lost=20" in (output.out + output.err)


def test_a_position_beyond_the_end_restarts_at_the_earliest_record(mock_kafka):
    fill(mock_kafka, 5)
    state = (STATE_VERSION, SLOTS, "", True, {0: (1000, 2)})
    with Process(mock_kafka.broker, states={"slot-00": state}) as process:
        process.read(5)
        assert process.offsets() == [(0, n) for n in range(5)]
        assert {record.era for record in process.records} == {3}
        assert process.states()["slot-00"][4] == {0: (5, 3)}
        assert process.resets == 1


def test_a_partition_restarts_only_after_its_old_offsets_are_settled(mock_kafka):
    fill(mock_kafka, 40)
    with Process(mock_kafka.broker) as process:
        process.read(40)
        process.slots["slot-00"]._consumer.restart_from_earliest("recreated")
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            assert process.poll() == []
        process.settle()
        process.read(80)
        assert [r.era for r in process.records] == [0] * 40 + [1] * 40


def test_a_topic_with_another_id_is_read_from_its_beginning(mock_kafka):
    fill(mock_kafka, 40)
    state = (STATE_VERSION, SLOTS, "the-old-id", True, {0: (10, 0)})
    with Process(mock_kafka.broker, states={"slot-00": state}) as process:
        process.monitor.topic_id = "the-new-id"
        process.poll_until(lambda: process.resets == 1)
        assert process.states()["slot-00"][2:] == ("the-new-id", False, {0: (OFFSET_BEGINNING, 1)})
        process.read(40)
        assert process.states()["slot-00"][3]
        assert process.offsets() == [(0, n) for n in range(40)]
        assert {record.era for record in process.records} == {1}


def test_a_topic_with_another_id_is_not_turned_into_dead_letters(mock_kafka):
    fill(mock_kafka, 300, value=b"<xml/>")
    state = (STATE_VERSION, SLOTS, "the-old-id", True, {0: (10, 0)})
    with Process(mock_kafka.broker, states={"slot-00": state}) as process:
        process.monitor.topic_id = "the-new-id"
        stall = process.poll_until(process.stall)
        assert "none of the first 100 events" in stall.reason
        assert process.records == []


def test_a_failed_consumer_is_replaced_at_the_same_position(mock_kafka):
    count = READ_RECORDS + 50
    fill(mock_kafka, count)
    with Process(mock_kafka.broker) as process:
        process.read(READ_RECORDS)
        process.slots["slot-00"]._consumer._reopen("Local: Fatal error")
        process.read(count)
        assert process.offsets() == [(0, n) for n in range(count)]
        assert process.resets == 0


def test_records_after_an_end_in_the_same_read_move_the_position_behind_them(mock_kafka):
    fill(mock_kafka, 5)
    with Process(mock_kafka.broker) as process:
        process.read(5)
        slot = process.slots["slot-00"]
        fetched: list[Message] = []
        for count in (5, 10):
            fill(mock_kafka, 5)
            eventually(lambda count=count: fetch(slot, fetched) == count, 20)
        *before, end = fetched
        assert end.error()
        assert any(message.error() for message in before)
        slot._consumer._fetched = before  # with an end among them, and without the last one
        process.read(15)
        assert process.states()["slot-00"][-1] == {0: (15, 0)}


def fetch(slot, into):
    """Take what librdkafka has for a slot, ends too; returns how many records there are."""
    into += slot._consumer._consumer.consume(32, 0.05)
    ended = bool(into) and bool(into[-1].error())
    return ended and sum(message.error() is None for message in into)
