"""A Kafka in a library: librdkafka's mock cluster, on real sockets, for other processes too.

It keeps about 5 MB a partition and drops the oldest beyond that, keeps nothing over a restart,
has no access control, and does not wake a waiting fetch: its clients set `fetch.wait.max.ms`
to 5. `Producer({"test.mock.num.brokers": 1})` would start one as well, but with four partitions
a topic and no way to stop its broker; librdkafka's own calls give both.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import signal
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from gibsey_embedder.fakes.librdkafka import library, new_handle

PARTITION_BYTES = 4_000_000
"""Unread bytes that a partition may hold when pacing; the mock drops records beyond 5 MiB."""
RECORD_OVERHEAD_BYTES = 100
CLIENT_OPTIONS: dict[str, str | int] = {"fetch.wait.max.ms": 5}
"""What clients of the mock set."""
TIMEOUT_S = 10.0
WAKE_EVERY_S = 0.002
_SILENT: dict[str, str | int] = {"log_level": 0}


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was read back.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset.
        key: Key bytes, None if it has none.
        value: Value bytes, None for a tombstone.
        timestamp_ms: Milliseconds since 1970.
        headers: Header values by name; of doubled names the last one.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: dict[str, bytes]


class MockKafka:
    """A Kafka broker inside this process.

    Args:
        topics: Partitions by topic; other topics are made with four when first used.
    """

    def __init__(self, topics: dict[str, int] | None = None) -> None:
        self._topics = {"cdc.pages": 3, "cdc.pages.dlq": 1} if topics is None else topics
        self._kafka = library()
        self._handle: int | None = None
        self._cluster: int | None = None
        self._producer: Producer | None = None
        self._sent: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        self._lock = threading.Lock()
        self.broker = ""

    def start(self) -> None:
        """Listens on a free port and makes the topics."""
        self._handle = new_handle(self._kafka)
        self._cluster = self._kafka.rd_kafka_mock_cluster_new(self._handle, 1)
        self.broker = self._kafka.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        for name, partitions in self._topics.items():
            self.create_topic(name, partitions)
        self._producer = Producer({"bootstrap.servers": self.broker, "linger.ms": 0, **_SILENT})

    def stop(self) -> None:
        """Ends the broker; what it held is gone."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None
        if self._cluster is not None:
            self._kafka.rd_kafka_mock_cluster_destroy(self._cluster)
            self._kafka.rd_kafka_destroy(self._handle)
            self._cluster = self._handle = None

    def __enter__(self) -> MockKafka:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def create_topic(self, name: str, partitions: int) -> None:
        """Makes a topic, or does nothing where it is there already."""
        self._order("topic_create", name.encode(), partitions, 1)

    def down(self) -> None:
        """Takes the broker away: connections end and new ones are refused; records stay."""
        self._order("broker_set_down", 1)

    def up(self) -> None:
        """Brings the broker back after `down`, at the same address."""
        self._order("broker_set_up", 1)

    def slow(self, round_trip_ms: int) -> None:
        """Makes every answer of the broker take so long; 0 is fast again."""
        self._order("broker_set_rtt", 1, round_trip_ms)

    def deny_topic(self, topic: str, code: int) -> None:
        """Answers questions about a topic with an error code of Kafka's; 0 ends it."""
        self._order("topic_set_error", topic.encode(), code)

    def deny_requests(self, api: int, code: int, times: int) -> None:
        """Answers the next requests of a kind (Kafka's API key) with an error code."""
        codes = (ctypes.c_int * times)(*[code] * times)
        self._order("push_request_errors_array", api, times, codes)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Deletes the records before an offset, as retention would."""
        self._order("partition_delete_records", topic.encode(), partition, before)

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: str | bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """Sends one record; `flush` waits until all are there.

        Raises:
            BufferError: A hundred thousand records wait; call `flush` in between.
        """
        producer = self._client()
        producer.produce(
            topic,
            value=value,
            key=key,
            partition=-1 if partition is None else partition,
            timestamp=timestamp_ms or 0,
            headers=list(headers or ()),
            on_delivery=self._delivered,
        )
        producer.poll(0)

    def flush(self, timeout_s: float = TIMEOUT_S) -> None:
        """Waits until everything produced is in the broker.

        Raises:
            TimeoutError: It is not in time.
        """
        if left := self._client().flush(timeout_s):
            raise TimeoutError(f"{left} records were not taken by the mock broker")

    def wait_for_room(self, topic: str, group: str, stop: threading.Event | None = None) -> None:
        """Waits until no partition holds more than 4 MB that `group` has not committed.

        Without this a backlog past 5 MB a partition loses its oldest records.
        """
        self.flush()
        while self.unread_bytes(topic, group) > PARTITION_BYTES:
            if stop is not None and stop.is_set():
                return
            time.sleep(0.05)

    def unread_bytes(self, topic: str, group: str) -> int:
        """Bytes in the fullest partition that `group` has not committed."""
        committed = self.committed(topic, group)
        most = 0
        with self._lock:
            for (name, partition), sizes in self._sent.items():
                if name == topic:
                    done = committed.get(partition, 0)
                    sizes[:] = [entry for entry in sizes if entry[0] >= done]
                    most = max(most, sum(size for _, size in sizes))
        return most

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        found = self._client().list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        return len(found.partitions)

    def read(self, topic: str) -> list[Record]:
        """Every record that a topic holds now, by partition and offset."""
        with _Reader(self.broker) as consumer:
            return list(_read_all(consumer, topic, self.partitions(topic)))

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """A group's committed offsets by partition; those without one are left out."""
        asked = [TopicPartition(topic, number) for number in range(self.partitions(topic))]
        with _Reader(self.broker, group) as consumer:
            found = consumer.committed(asked, timeout=TIMEOUT_S)
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record, by partition."""
        with _Reader(self.broker) as consumer:
            return {
                number: consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=TIMEOUT_S
                )[1]
                for number in range(self.partitions(topic))
            }

    def _order(self, name: str, *arguments: object) -> None:
        """Calls the cluster's thread; new connections wake it, else it looks once a second."""
        done = threading.Event()
        waker = threading.Thread(target=_knock, args=(self.broker, done), daemon=True)
        waker.start()
        getattr(self._kafka, f"rd_kafka_mock_{name}")(self._cluster, *arguments)
        done.set()
        waker.join()

    def _client(self) -> Producer:
        if self._producer is None:
            raise RuntimeError("the mock Kafka is not started")
        return self._producer

    def _delivered(self, error: object, message: Message) -> None:
        if error is None:
            size = RECORD_OVERHEAD_BYTES + len(message)
            place = (str(message.topic()), int(message.partition() or 0))
            with self._lock:
                self._sent[place].append((int(message.offset() or 0), size))


def _knock(broker: str, done: threading.Event) -> None:
    host, _, port = broker.rpartition(":")
    while not done.wait(WAKE_EVERY_S):
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()


class _Reader:
    """A consumer that is closed at the end of a `with`."""

    def __init__(self, broker: str, group: str = "mock-kafka-reader") -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                **_SILENT,
                **CLIENT_OPTIONS,
            }
        )

    def __enter__(self) -> Consumer:
        return self._consumer

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def _read_all(consumer: Consumer, topic: str, partitions: int) -> Iterator[Record]:
    for number in range(partitions):
        place = TopicPartition(topic, number)
        low, end = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        if end <= low:
            continue
        consumer.assign([TopicPartition(topic, number, low)])
        offset = low
        while offset < end:
            message = consumer.poll(TIMEOUT_S)
            if message is None or message.error() is not None:
                break
            yield (record := _record(message))
            offset = record.offset + 1


def _record(message: Message) -> Record:
    return Record(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=message.key(),
        value=message.value(),
        timestamp_ms=int(message.timestamp()[1]),
        headers=_headers(message),
    )


def _headers(message: Message) -> dict[str, bytes]:
    given = message.headers() or ()
    pairs = given.items() if isinstance(given, dict) else given
    return {name: value if isinstance(value, bytes) else b"" for name, value in pairs}


def main() -> None:
    """Runs a broker as a process of its own: prints its address, ends at SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.kafka", description=main.__doc__
    )
    parser.add_argument("--partitions", type=int, default=3, help="of cdc.pages")
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    topics = {"cdc.pages": parser.parse_args().partitions, "cdc.pages.dlq": 1}
    with MockKafka(topics) as broker:
        print(broker.broker, flush=True)
        done.wait()


if __name__ == "__main__":
    main()
