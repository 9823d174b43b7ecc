"""The fake Kafka: partitions, records, committed offsets and outages."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from gibsey_embedder.fakes.kafka import CLIENT_OPTIONS, MockKafka
from gibsey_embedder.fakes.process import FakeProcess


def consumer_of(kafka: MockKafka, group: str = "g") -> Consumer:
    options = {"bootstrap.servers": kafka.broker, "group.id": group, "log_level": 0}
    return Consumer({**options, **CLIENT_OPTIONS, "enable.auto.commit": False})


def test_topics_have_the_given_partitions_or_else_four(mock_kafka: MockKafka) -> None:
    assert mock_kafka.partitions("cdc.pages") == 3
    assert mock_kafka.partitions("cdc.pages.dlq") == 1
    assert mock_kafka.partitions("made.when.first.used") == 4


def test_records_are_returned_as_sent(mock_kafka: MockKafka) -> None:
    mock_kafka.produce(
        "cdc.pages", "k", b"v", partition=2, timestamp_ms=1234, headers=[("h", b"1")]
    )
    mock_kafka.produce("cdc.pages", b"k", None, partition=2)
    mock_kafka.flush()
    first, tombstone = mock_kafka.read("cdc.pages")
    assert (first.key, first.value, first.timestamp_ms) == (b"k", b"v", 1234)
    assert (first.partition, first.offset, first.headers) == (2, 0, {"h": b"1"})
    assert tombstone.value is None
    assert mock_kafka.ends("cdc.pages") == {0: 0, 1: 0, 2: 2}


def test_the_committed_offsets_of_a_group_are_returned(mock_kafka: MockKafka) -> None:
    mock_kafka.produce("cdc.pages", "k", b"v", partition=1)
    mock_kafka.flush()
    consumer = consumer_of(mock_kafka)
    consumer.commit(offsets=[TopicPartition("cdc.pages", 1, 1)], asynchronous=False)
    consumer.close()
    assert mock_kafka.committed("cdc.pages", "g") == {1: 1}
    assert mock_kafka.committed("cdc.pages", "other") == {}


def test_a_waiting_consumer_receives_a_new_record_within_milliseconds(
    mock_kafka: MockKafka,
) -> None:
    consumer = consumer_of(mock_kafka)
    consumer.assign([TopicPartition("cdc.pages", 0, 0)])
    consumer.poll(0.3)
    began = time.monotonic()
    mock_kafka.produce("cdc.pages", "k", b"v", partition=0)
    mock_kafka.flush()
    message = consumer.poll(5)
    took = time.monotonic() - began
    consumer.close()
    assert message is not None
    assert took < 0.15


def test_records_survive_an_outage_of_the_broker(mock_kafka: MockKafka) -> None:
    mock_kafka.produce("cdc.pages", "k", b"v")
    mock_kafka.flush()
    mock_kafka.down()
    client = Producer({"bootstrap.servers": mock_kafka.broker, "log_level": 0})
    with pytest.raises(KafkaException):
        client.list_topics(timeout=0.3)
    mock_kafka.up()
    assert [record.value for record in mock_kafka.read("cdc.pages")] == [b"v"]


def test_deleted_records_leave_a_gap_at_the_beginning(mock_kafka: MockKafka) -> None:
    for number in range(5):
        mock_kafka.produce("cdc.pages", "k", str(number), partition=0)
    mock_kafka.flush()
    mock_kafka.delete_records("cdc.pages", 0, before=3)
    assert [record.offset for record in mock_kafka.read("cdc.pages")] == [3, 4]


def test_wait_for_room_waits_while_a_partition_is_nearly_full(mock_kafka: MockKafka) -> None:
    for _ in range(45):
        mock_kafka.produce("cdc.pages", "k", b"x" * 100_000, partition=0)
    mock_kafka.flush()
    assert mock_kafka.unread_bytes("cdc.pages", "g") > 4_000_000
    consumer = consumer_of(mock_kafka)
    consumer.commit(offsets=[TopicPartition("cdc.pages", 0, 20)], asynchronous=False)
    consumer.close()
    mock_kafka.wait_for_room("cdc.pages", "g")
    assert mock_kafka.unread_bytes("cdc.pages", "g") < 4_000_000


def test_the_broker_serves_other_processes() -> None:
    with FakeProcess("kafka", partitions=2) as process:
        client = Producer({"bootstrap.servers": process.url, "log_level": 0})
        assert len(client.list_topics("cdc.pages", timeout=5).topics["cdc.pages"].partitions) == 2
