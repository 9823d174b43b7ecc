"""What only a real Kafka shows, at TEST_KAFKA_BROKER.

Topics are made and deleted again. Where TEST_KAFKA_PID is the broker's process on this machine and
TEST_KAFKA_RESTART a command that restarts it, it is killed and restarted too.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from connectors.core.records import DeadLetter, Record
from connectors.kafka.dead_letters.producer import DeadLetterProducer
from connectors.kafka.source import SLOTS, STATE_VERSION
from tests.connectors.kafka.slots import Process
from tests.eventually import eventually

BROKER = os.environ.get("TEST_KAFKA_BROKER", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.kafka,
    pytest.mark.skipif(not BROKER, reason="TEST_KAFKA_BROKER names no Kafka"),
]


class Topic:
    """A topic of the test's own."""

    def __init__(self, partitions: int = 3, **config: str) -> None:
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.admin = AdminClient({"bootstrap.servers": BROKER})
        self.producer = Producer({"bootstrap.servers": BROKER, "linger.ms": 0})
        self.make(partitions, **config)

    def make(self, partitions: int = 3, **config: str) -> None:
        def made() -> bool:
            new = NewTopic(self.name, partitions, 1, config=config)
            try:
                self.admin.create_topics([new])[self.name].result(10)
            except KafkaException:  # its predecessor is still being deleted
                return False
            return True

        eventually(made)

    def delete(self) -> None:
        self.admin.delete_topics([self.name])[self.name].result(10)

    def fill(self, count: int, *, partition: int = 0, value: bytes = b"{}") -> None:
        for _ in range(count):
            self.producer.produce(self.name, value, partition=partition)
        assert self.producer.flush(20) == 0

    def delete_records(self, before: int, partition: int = 0) -> None:
        place = TopicPartition(self.name, partition, before)
        self.admin.delete_records([place])[place].result(10)

    def committed(self, group: str) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": BROKER, "group.id": group})
        try:
            places = [TopicPartition(self.name, n) for n in range(3)]
            return {p.partition: p.offset for p in consumer.committed(places, timeout=10)}
        finally:
            consumer.close()


@pytest.fixture
def topic() -> Iterator[Topic]:
    made = Topic()
    yield made
    made.delete()


def process_of(topic: Topic, **more) -> Process:
    return Process(BROKER, topic=topic.name, group=topic.name, options={}, **more)


def test_an_empty_topic_is_read_live_with_its_identity(topic):
    with process_of(topic) as process:
        process.poll_until(lambda: process.tracker.low_watermarks() == {0: 0, 1: 0, 2: 0})
        topic.fill(5, partition=1)
        process.read(5)
        eventually(lambda: process.monitor.topic_id)
        process.poll()
        assert process.states()["slot-01"][2] == process.monitor.topic_id


def test_records_deleted_beyond_the_position_are_read_over(topic, capsys):
    topic.fill(100)
    topic.delete_records(60)
    state = (STATE_VERSION, SLOTS, "", True, {0: (25, 0)})
    with process_of(topic, states={"slot-00": state}) as process:
        process.read(40)
        assert process.offsets() == [(0, n) for n in range(60, 100)]
        assert process.resets == 1
        assert {record.era for record in process.records} == {1}
    assert "lost=35" in "".join(capsys.readouterr())


def test_records_deleted_while_the_worker_is_held_up_are_read_over(topic):
    topic.fill(10)
    with process_of(topic) as process:
        process.read(10)
        process.settle()
        process.poll_until(lambda: process.states()["slot-00"][4][0] == (10, 0))
    states = process.states()
    topic.fill(100)
    topic.delete_records(70)
    with process_of(topic, states=states) as process:
        process.read(40)
        assert process.offsets()[0] == (0, 70)


def test_a_topic_recreated_while_stopped_is_read_from_its_beginning(topic):
    topic.fill(50)
    with process_of(topic) as process:
        process.read(50)
        eventually(lambda: process.monitor.topic_id)
        process.poll()
        states = process.states()
    topic.delete()
    topic.make()
    topic.fill(80)  # past the old position: the offset alone shows nothing
    with process_of(topic, states=states) as process:
        process.poll_until(
            lambda: process.settle() or [r.era for r in process.records].count(1) == 80
        )
        offsets = [record.offset for record in process.records if record.era == 1]
        assert offsets == list(range(80))


@pytest.mark.parametrize("after", [20, 90], ids=["shorter", "longer"])
def test_a_topic_recreated_while_running_is_read_from_its_beginning(topic, after):
    topic.fill(50)
    with process_of(topic) as process:
        process.read(50)
        process.settle()
        eventually(lambda: process.monitor.topic_id)
        topic.delete()
        topic.make()
        topic.fill(after)
        process.poll_until(
            lambda: process.settle() or [r.era for r in process.records].count(1) == after,
            within_s=60,
        )
        assert process.resets == 1
        process.poll_until(lambda: process.stall() is None)


def takes(topic: Topic, partition: int) -> bool:
    """Send an event; False if the producer does not know the partition yet."""
    topic.producer.list_topics(topic.name, timeout=5)
    try:
        topic.fill(1, partition=partition)
    except KafkaException:
        return False
    return True


def test_partitions_added_while_running_are_read_within_a_minute(topic):
    with process_of(topic) as process:
        process.poll_until(lambda: len(process.context.assigned) == 3)
        topic.admin.create_partitions([NewPartitions(topic.name, 15)])[topic.name].result(10)
        for partition in range(15):
            eventually(lambda p=partition: takes(topic, p))
        process.read(15, within_s=60)
        assert process.offsets() == [(p, 0) for p in range(15)]


def test_a_missing_topic_is_read_when_it_appears():
    topic = Topic()
    topic.delete()
    with process_of(topic) as process:
        stall = process.poll_until(process.stall, within_s=10)
        assert "no topic" in stall.reason
        topic.make()
        topic.fill(3)
        process.read(3)
        process.poll_until(lambda: process.stall() is None)
    topic.delete()


def test_transaction_markers_leave_no_lag(topic):
    producer = Producer({"bootstrap.servers": BROKER, "transactional.id": topic.name})
    producer.init_transactions(20)
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(topic.name, b"{}", partition=0)
        producer.commit_transaction(20)
    producer.begin_transaction()
    producer.produce(topic.name, b"{}", partition=0)
    producer.flush(20)
    producer.abort_transaction(20)
    with process_of(topic) as process:
        process.read(3)
        process.settle()
        process.poll_until(lambda: process.tracker.low_watermarks().get(0) == 8)
        process.poll_until(lambda: process.lag() == {"0": 0, "1": 0, "2": 0})


def test_the_source_survives_a_killed_broker(topic, kafka_server):
    topic.fill(1000)
    with process_of(topic) as process:
        process.read(1000)
        kafka_server.end()
        process.poll_until(process.stall, within_s=20)
        kafka_server.start()
        topic.fill(1000)
        process.read(2000, within_s=60)
        assert process.offsets() == [(0, n) for n in range(2000)]
        assert process.resets == 0
        process.poll_until(lambda: process.stall() is None)


def test_dead_letters_outlive_a_killed_broker(topic, kafka_server):
    async def use(producer: DeadLetterProducer) -> None:
        await producer.deliver(dead_letter(0))
        await asyncio.to_thread(kafka_server.end)
        waiting = [asyncio.ensure_future(producer.deliver(dead_letter(n))) for n in range(1, 500)]
        await asyncio.sleep(3)
        await asyncio.to_thread(kafka_server.start)
        await asyncio.gather(*waiting)

    with process_of(topic) as process:
        deliver(process, topic.name, use)
    with process_of(topic) as reader:
        reader.read(500)
        time.sleep(0.5)
        reader.poll()
        assert len(reader.records) == 500


def test_the_dead_letter_topic_is_made_where_it_is_missing(topic):
    name = f"{topic.name}.dlq"
    with process_of(topic) as process:
        deliver(process, name, lambda producer: producer.deliver(dead_letter(1)))
    found = topic.admin.list_topics(name, timeout=10).topics[name]
    assert len(found.partitions) == 3
    topic.admin.delete_topics([name])[name].result(10)


def test_a_dead_letter_too_large_for_its_topic_is_sent_without_its_value_and_the_others_are_complete():
    topic = Topic(1, **{"max.message.bytes": "10000"})

    async def use(producer: DeadLetterProducer) -> None:
        large = [producer.deliver(dead_letter(n, b"x" * 20_000)) for n in (100, 101)]
        small = [producer.deliver(dead_letter(n, b"y" * 4_000)) for n in range(20)]
        await asyncio.gather(*large, *small)

    with process_of(topic) as process:
        deliver(process, topic.name, use)
    with process_of(topic) as reader:
        reader.read(22)
        values = sorted(len(record.value or b"") for record in reader.records)
        assert values == [0, 0] + [4000] * 20
    topic.delete()


def test_a_compacted_dead_letter_topic_stalls_with_the_remedy():
    topic = Topic(1, **{"cleanup.policy": "compact"})
    with process_of(topic) as process:

        async def use(producer: DeadLetterProducer) -> None:
            record = Record("cdc.pages", 0, 1, 0, None, b"no key")
            task = asyncio.ensure_future(producer.deliver(DeadLetter(record, "undecodable", "x")))
            while not (found := [s for s in process.stalls.current() if s.remedy]):
                await asyncio.sleep(0.05)
            assert "cleanup.policy=delete" in found[0].remedy
            task.cancel()

        deliver(process, topic.name, use)
    topic.delete()


def dead_letter(offset: int, value: bytes = b"x") -> DeadLetter:
    return DeadLetter(Record("cdc.pages", 0, offset, 0, b"k", value), "undecodable", "x")


def deliver(process: Process, topic: str, use) -> None:
    producer = DeadLetterProducer(
        process.config,
        topic,
        errors=process.monitor.errors,
        stalls=process.stalls,
        metrics=process.metrics,
        shutdown=process.shutdown,
    )
    try:
        asyncio.run(asyncio.wait_for(use(producer), 90))
    finally:
        producer.close()
