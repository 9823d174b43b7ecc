"""A fake Kafka: librdkafka's mock cluster on a real socket, which other processes can use.

A partition holds about 5 MB and then drops its oldest records. A restart loses all records. There
is no access control. The mock does not wake a waiting fetch, so clients set `fetch.wait.max.ms` to
5. `Producer({"test.mock.num.brokers": 1})` starts a mock cluster too, but with four partitions per
topic and without a way to stop its broker; librdkafka's own functions allow both.
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
"""`wait_for_room` allows this many unread bytes per partition; the mock drops beyond 5 MiB."""
RECORD_OVERHEAD_BYTES = 100
CLIENT_OPTIONS: dict[str, str | int] = {"fetch.wait.max.ms": 5}
"""librdkafka properties for clients of the mock."""
TIMEOUT_S = 10.0
WAKE_INTERVAL_S = 0.002
_SILENT: dict[str, str | int] = {"log_level": 0}


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic.

    Attributes:
        topic: The topic.
        partition: The partition.
        offset: The offset.
        key: Key bytes; None if the record has no key.
        value: Value bytes; None for a tombstone.
        timestamp_ms: Milliseconds since 1970.
        headers: Header values by name; a repeated name has its last value.
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
        topics: Number of partitions by topic; first use creates other topics with four.
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
        """Listen on a free port and create the topics."""
        self._handle = new_handle(self._kafka)
        self._cluster = self._kafka.rd_kafka_mock_cluster_new(self._handle, 1)
        self.broker = self._kafka.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        for name, partitions in self._topics.items():
            self.create_topic(name, partitions)
        self._producer = Producer({"bootstrap.servers": self.broker, "linger.ms": 0, **_SILENT})

    def stop(self) -> None:
        """Stop the broker and drop its records."""
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
        """Create a topic, unless it exists."""
        self._call("topic_create", name.encode(), partitions, 1)

    def down(self) -> None:
        """Close all connections and refuse new ones; keep the records."""
        self._call("broker_set_down", 1)

    def up(self) -> None:
        """Accept connections again after `down`, at the same address."""
        self._call("broker_set_up", 1)

    def slow(self, round_trip_ms: int) -> None:
        """Delay every response by `round_trip_ms`; 0 ends the delay."""
        self._call("broker_set_rtt", 1, round_trip_ms)

    def deny_topic(self, topic: str, code: int) -> None:
        """Answer metadata requests for a topic with a Kafka error code; 0 ends this."""
        self._call("topic_set_error", topic.encode(), code)

    def deny_requests(self, api: int, code: int, times: int) -> None:
        """Answer the next `times` requests with the API key `api` with an error code."""
        codes = (ctypes.c_int * times)(*[code] * times)
        self._call("push_request_errors_array", api, times, codes)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        self._call("partition_delete_records", topic.encode(), partition, before)

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
        """Send one record; `flush` waits until the broker has all records.

        Raises:
            BufferError: A hundred thousand records are queued; call `flush` first.
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
        """Wait until the broker has all records.

        Raises:
            TimeoutError: The broker did not acknowledge them in time.
        """
        if left := self._client().flush(timeout_s):
            raise TimeoutError(f"the mock broker did not acknowledge {left} records")

    def wait_for_room(self, topic: str, group: str, stop: threading.Event | None = None) -> None:
        """Wait until no partition holds more than 4 MB that `group` has not committed.

        Beyond 5 MB per partition, a backlog loses its oldest records.
        """
        self.flush()
        while self.unread_bytes(topic, group) > PARTITION_BYTES:
            if stop is not None and stop.is_set():
                return
            time.sleep(0.05)

    def unread_bytes(self, topic: str, group: str) -> int:
        """Return the bytes that `group` has not committed in the fullest partition."""
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
        """Return the number of partitions of a topic."""
        metadata = self._client().list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        return len(metadata.partitions)

    def read(self, topic: str) -> list[Record]:
        """Return all current records of a topic, by partition and offset."""
        with _Consumer(self.broker) as consumer:
            return list(_read_all(consumer, topic, self.partitions(topic)))

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return a group's committed offsets by partition, without partitions that have none."""
        partitions = [TopicPartition(topic, number) for number in range(self.partitions(topic))]
        with _Consumer(self.broker, group) as consumer:
            committed = consumer.committed(partitions, timeout=TIMEOUT_S)
        return {entry.partition: entry.offset for entry in committed if entry.offset >= 0}

    def ends(self, topic: str) -> dict[int, int]:
        """Return the end offset of each partition."""
        with _Consumer(self.broker) as consumer:
            return {
                number: consumer.get_watermark_offsets(
                    TopicPartition(topic, number), timeout=TIMEOUT_S
                )[1]
                for number in range(self.partitions(topic))
            }

    def _call(self, name: str, *arguments: object) -> None:
        """Call the mock cluster's thread; new connections wake it, because it waits up to 1 s."""
        done = threading.Event()
        waker = threading.Thread(target=_wake, args=(self.broker, done), daemon=True)
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
            partition = (str(message.topic()), int(message.partition() or 0))
            with self._lock:
                self._sent[partition].append((int(message.offset() or 0), size))


def _wake(broker: str, done: threading.Event) -> None:
    host, _, port = broker.rpartition(":")
    while not done.wait(WAKE_INTERVAL_S):
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()


class _Consumer:
    """A consumer that `with` closes."""

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
        partition = TopicPartition(topic, number)
        low, end = consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S)
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
    """Run a broker as a process: print its address, and stop at SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.kafka", description=main.__doc__
    )
    parser.add_argument("--partitions", type=int, default=3, help="partitions of cdc.pages")
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    topics = {"cdc.pages": parser.parse_args().partitions, "cdc.pages.dlq": 1}
    with MockKafka(topics) as broker:
        print(broker.broker, flush=True)
        done.wait()


if __name__ == "__main__":
    main()
