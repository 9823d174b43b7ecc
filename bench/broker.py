"""The broker of a measurement: librdkafka's mock in this process, or a real broker."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from typing_extensions import Self, override

from gibsey_embedder.fakes.kafka import CLIENT_OPTIONS, MockKafka

PARTITIONS = 3
TIMEOUT_S = 60.0


class Broker(ABC):
    """The interface of a broker.

    Attributes:
        address: The broker's address.
        topic: The topic of the changes, with three partitions.
        group: The consumer group.
        options: Librdkafka properties for clients.
    """

    address: str
    topic: str
    group: str
    options: Mapping[str, str | int]

    @property
    def dead_letter_topic(self) -> str:
        """The topic of the dead letters."""
        return f"{self.topic}.dlq"

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @abstractmethod
    def send(self, key: str, value: bytes) -> None:
        """Send a record; `flush` waits until the broker has all records."""

    @abstractmethod
    def flush(self) -> None:
        """Wait until the broker has all records."""

    @abstractmethod
    def wait_for_room(self) -> None:
        """Wait until the topic has room for another thousand pages."""


def open_broker(address: str | None) -> Broker:
    """Return the real broker at an address, or the mock without an address."""
    return _Mock() if address is None else _Real(address)


class _Mock(Broker):
    """Librdkafka's mock cluster."""

    def __init__(self) -> None:
        self.topic, self.group, self.options = "cdc.pages", "gibsey-embedder", CLIENT_OPTIONS
        self._kafka = MockKafka({self.topic: PARTITIONS, self.dead_letter_topic: 1})
        self.address = ""

    @override
    def __enter__(self) -> Self:
        self._kafka.start()
        self.address = self._kafka.broker
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._kafka.stop()

    @override
    def send(self, key: str, value: bytes) -> None:
        self._kafka.produce(self.topic, key, value)

    @override
    def flush(self) -> None:
        self._kafka.flush()

    @override
    def wait_for_room(self) -> None:
        self._kafka.wait_for_room(self.topic, self.group)


class _Real(Broker):
    """A real broker, with topics and a group for this measurement."""

    def __init__(self, address: str) -> None:
        self.address, self.options = address, {}
        mark = uuid.uuid4().hex[:12]
        self.topic, self.group = f"bench.{mark}", f"bench-{mark}"
        self._admin = AdminClient({"bootstrap.servers": address})
        self._producer = Producer({"bootstrap.servers": address, "linger.ms": 0})

    @override
    def __enter__(self) -> Self:
        topics = [NewTopic(self.topic, PARTITIONS, 1), NewTopic(self.dead_letter_topic, 1, 1)]
        for created in self._admin.create_topics(topics).values():
            created.result(TIMEOUT_S)
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._producer.flush(TIMEOUT_S)
        for deleted in self._admin.delete_topics([self.topic, self.dead_letter_topic]).values():
            deleted.result(TIMEOUT_S)

    @override
    def send(self, key: str, value: bytes) -> None:
        self._producer.produce(self.topic, value, key)
        self._producer.poll(0)

    @override
    def flush(self) -> None:
        if left := self._producer.flush(TIMEOUT_S):
            raise TimeoutError(f"{self.address} did not acknowledge {left} records")

    @override
    def wait_for_room(self) -> None:
        """Return at once, because a real broker always has room."""
