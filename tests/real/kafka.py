"""A real Kafka with the interface of the fake, for the tests of tests/flow and tests/faults."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from gibsey_embedder.fakes.kafka import Record
from tests.eventually import eventually
from tests.real.servers import Server, given

ANSWER_S = 60.0


class KafkaContents:
    """What is in the broker at an address.

    Args:
        broker: The broker's address.
    """

    def __init__(self, broker: str) -> None:
        self.broker = broker
        self._config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": broker,
            "log_level": 0,  # a broker that is away on purpose is not worth a line
            "reconnect.backoff.max.ms": 1000,
        }

    def read(self, topic: str) -> list[Record]:
        """Every record that a topic holds, by partition and offset."""
        with self._consumer() as consumer:
            return [
                _record(message)
                for partition, (low, end) in self._watermarks(consumer, topic).items()
                for message in _messages(consumer, topic, partition, low, end)
            ]

    def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record, by partition."""
        with self._consumer() as consumer:
            return {n: end for n, (_, end) in self._watermarks(consumer, topic).items()}

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """A group's committed offsets, by partition; those without one are left out."""
        with self._consumer(group) as consumer:
            places = [TopicPartition(topic, n) for n in self._partitions(consumer, topic)]
            found = consumer.committed(places, timeout=ANSWER_S)
        return {place.partition: place.offset for place in found if place.offset >= 0}

    @contextmanager
    def _consumer(self, group: str = "none") -> Iterator[Consumer]:
        more = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        consumer = Consumer({**self._config, **more})
        try:
            yield consumer
        finally:
            consumer.close()

    def _partitions(self, consumer: Consumer, topic: str) -> list[int]:
        return sorted(consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions)

    def _watermarks(self, consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
        return {
            n: consumer.get_watermark_offsets(TopicPartition(topic, n), ANSWER_S)
            for n in self._partitions(consumer, topic)
        }


class RealKafka(KafkaContents):
    """The broker at an address, with topics and a group of the test's own.

    Args:
        broker: The broker's address.

    Attributes:
        topic: For the changes; three partitions.
        dead_letter_topic: For the dead letters; one.
        group: A consumer group.
    """

    def __init__(self, broker: str) -> None:
        super().__init__(broker)
        mark = uuid.uuid4().hex[:12]
        self.topic, self.dead_letter_topic = f"test.faults.{mark}", f"test.faults.{mark}.dlq"
        self.group = f"test-{mark}"
        self._admin = AdminClient(self._config)
        self._producer = self._new_producer()
        self._server: Server | None = None
        self.make_topic(self.topic, 3)
        self.make_topic(self.dead_letter_topic, 1)

    def remove(self) -> None:
        """Start the broker, if it is away, and delete the topics."""
        if self._server is not None:
            self._server.start()
        for done in self._admin.delete_topics([self.topic, self.dead_letter_topic]).values():
            done.result(ANSWER_S)

    @property
    def server(self) -> Server:
        """The broker's process; the test is skipped where none is named."""
        if self._server is None:
            self._server = Server(int(given("TEST_KAFKA_PID")), given("TEST_KAFKA_RESTART"))
        return self._server

    def down(self) -> None:
        """Kill the broker."""
        self.server.end()

    def up(self) -> None:
        """Start it again."""
        self.server.start()

    def make_topic(self, name: str, partitions: int) -> None:
        """Make a topic; waits while one of its name is still being deleted."""

        def made() -> bool:
            try:
                self._admin.create_topics([NewTopic(name, partitions, 1)])[name].result(ANSWER_S)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                return False
            return True

        eventually(made, ANSWER_S)

    def make_anew(self) -> None:
        """Delete the topic of the changes, and make it again."""
        self.flush()
        self._admin.delete_topics([self.topic])[self.topic].result(ANSWER_S)
        self.make_topic(self.topic, 3)
        self._producer = self._new_producer()  # the old one numbers what it sends for the old topic

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention would."""
        place = TopicPartition(topic, partition, before)
        self._admin.delete_records([place])[place].result(ANSWER_S)

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: str | bytes | None,
        *,
        partition: int | None,
    ) -> None:
        """Send one record, later where the broker is away."""
        self._producer.produce(topic, value, key, -1 if partition is None else partition)
        self._producer.poll(0)

    def flush(self, timeout_s: float = ANSWER_S) -> None:
        """Wait until the broker has everything that was sent."""
        assert self._producer.flush(timeout_s) == 0, "the broker did not take all events"

    def _new_producer(self) -> Producer:
        more = {"enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 0}
        return Producer({**self._config, **more})


def _messages(
    consumer: Consumer, topic: str, partition: int, low: int, end: int
) -> Iterator[Message]:
    consumer.assign([TopicPartition(topic, partition, low)])
    while low < end:
        message = consumer.poll(ANSWER_S)
        assert message is not None, f"{topic} cannot be read"
        if message.error() is None:
            low = (message.offset() or 0) + 1
            yield message


def _record(message: Message) -> Record:
    found = message.headers() or ()
    pairs = found.items() if isinstance(found, dict) else found
    key, value = message.key(), message.value()
    return Record(
        str(message.topic()),
        message.partition() or 0,
        message.offset() or 0,
        key if isinstance(key, bytes) else None,
        value if isinstance(value, bytes) else None,
        message.timestamp()[1],
        {name: text if isinstance(text, bytes) else b"" for name, text in pairs},
    )
