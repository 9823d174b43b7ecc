"""Watches the topic in its own thread: whether it exists, its partitions and their ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaException,
    TopicPartition,
)

from connectors.kafka.admin import TopicIdClient
from connectors.kafka.clients import open_consumer
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.observability import logs
from connectors.observability.stalls import Stalls
from connectors.runtime.shutdown import Shutdown

REQUEST_TIMEOUT_S = 2.0
INTERVAL_S = 1.0
SHORT_INTERVAL_S = 0.05
REFRESH_S = 30.0
"""Seconds between two requests for the metadata: new partitions are read within a minute."""


class LagObserver(Protocol):
    """Receives the ends of partitions once a second."""

    def partitions(self) -> Iterable[int]:
        """Return the partitions to measure."""

    def without_position(self) -> Sequence[int]:
        """Return the partitions whose start is unknown."""

    def starts_at(self, starts: Mapping[int, int]) -> None:
        """Take the offset where reading starts, by partition."""

    def measure(self, ends: Mapping[int, int]) -> None:
        """Take the offset after the last record, by partition."""


class MetadataMonitor:
    """Requests the topic's metadata, and reports what is wrong with it.

    Args:
        config: How to connect to Kafka.
        stalls: Where problems are reported.
        shutdown: Ends the thread.
        workers: Worker threads of all processes; more than partitions cause a warning.

    Attributes:
        partitions: Partitions of the topic; 0 until they are known.
        topic_id: Distinguishes the topic from a recreated one of the same name; empty if unknown.
        refreshed_at: When the last successful refresh started (monotonic seconds).
        errors: Where all clients of the process report their errors.
    """

    def __init__(
        self, config: KafkaConfig, stalls: Stalls, shutdown: Shutdown, workers: int = 1
    ) -> None:
        self._config = config
        self._workers = workers
        self._shutdown = shutdown
        self._wake = threading.Event()
        self._started = threading.Lock()
        self._client: Consumer | None = None
        self._refresh_at = 0.0
        self._metadata_at = float("-inf")  # when the last metadata was requested
        self._measure_at = 0.0
        self._observer: LagObserver | None = None
        self._log = logs.get("kafka")
        self.partitions = 0
        self.topic_id = ""
        self.refreshed_at = float("-inf")
        self.errors = KafkaErrorMonitor(config, stalls, on_problem=self.refresh_soon)
        self._ids = TopicIdClient(config, self.errors)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._started.acquire(blocking=False):
            self._shutdown.on_stop(self._wake.set)
            threading.Thread(target=self._run, name="topic-monitor", daemon=True).start()

    def measure_for(self, observer: LagObserver) -> None:
        """Send the ends of the observer's partitions to it, once a second."""
        self._observer = observer

    def refresh_soon(self) -> None:
        """Request the metadata now."""
        self._refresh_at = 0.0
        self._wake.set()

    def _run(self) -> None:
        with self._shutdown.guard("topic monitor"):
            while not self._shutdown.stopping.is_set():
                self._check()
                self._wake.wait(SHORT_INTERVAL_S if self._ids.is_requested else INTERVAL_S)
                self._wake.clear()
                self._shutdown.stopping.wait(SHORT_INTERVAL_S)  # problems may be many

    def _check(self) -> None:
        client = self._opened()
        if client is None:
            return
        try:
            if time.monotonic() >= self._refresh_at or self.errors.current() is not None:
                self._refresh(client)
            self._follow_id()
            if time.monotonic() >= self._measure_at:
                self._measure(client)
        except KafkaException:  # the callbacks report the cause
            self.refresh_soon()
        client.poll(0)  # runs the callbacks
        self.errors.repeat()

    def _opened(self) -> Consumer | None:
        if self._client is None:
            try:
                self._client = open_consumer(self._config, self.errors)
            except KafkaException as error:
                self.errors.client_failed(error)
                self.errors.repeat()
                return None
            self.errors.client_opened()
        return self._client

    def _refresh(self, client: Consumer) -> None:
        requested_at = time.monotonic()
        topics = client.list_topics(self._config.topic, timeout=REQUEST_TIMEOUT_S).topics
        self.errors.broker_responded()
        topic = topics.get(self._config.topic)
        if topic is None or (topic.error is not None and not topic.partitions):
            if topic is not None:
                self.errors.on_error(topic.error)
            return
        self.errors.resolve("topic")
        self._refresh_at = requested_at + REFRESH_S
        self._take_partitions(len(topic.partitions))
        self._metadata_at = requested_at

    def _follow_id(self) -> None:
        """Request the topic's id after each refresh, if the broker has ids."""
        response = self._ids.response()
        if response is not None:
            self.topic_id, self.refreshed_at = response
        if self._ids.is_unsupported:
            self.refreshed_at = self._metadata_at
        elif self._metadata_at > self.refreshed_at and not self._ids.is_requested:
            self._ids.request()

    def _take_partitions(self, partitions: int) -> None:
        if partitions == self.partitions:
            return
        self._log.info("topic", topic=self._config.topic, partitions=partitions)
        self.partitions = partitions
        idle = self._workers - partitions
        if idle > 0:
            self._log.warning(
                f"more workers than partitions: {idle} of {self._workers} read nothing",
                topic=self._config.topic,
                partitions=partitions,
                remedy=f"start {partitions} workers in all, or give the topic more partitions",
            )

    def _measure(self, client: Consumer) -> None:
        """Request the ends of partitions; the response also shows that the broker is alive."""
        self._measure_at = time.monotonic() + INTERVAL_S / 2
        partitions = list(self._observer.partitions()) if self._observer else []
        if self._observer is None or not partitions:
            return
        if unknown := self._observer.without_position():
            self._observer.starts_at(self._starts(client, unknown))
        ends = self._offsets_at(client, partitions, OFFSET_END)
        if ends:
            self.errors.broker_responded()
        self._observer.measure(ends)

    def _starts(self, client: Consumer, partitions: Sequence[int]) -> dict[int, int]:
        """Where reading will start: at the committed offset, else at the earliest record."""
        requests = self._requests(partitions, OFFSET_INVALID)
        starts = _offsets_in(client.committed(requests, timeout=REQUEST_TIMEOUT_S))
        others = [partition for partition in partitions if partition not in starts]
        return starts | self._offsets_at(client, others, OFFSET_BEGINNING) if others else starts

    def _offsets_at(
        self, client: Consumer, partitions: Iterable[int], position: int
    ) -> dict[int, int]:
        requests = self._requests(partitions, position)
        return _offsets_in(client.offsets_for_times(requests, timeout=REQUEST_TIMEOUT_S))

    def _requests(self, partitions: Iterable[int], offset: int) -> list[TopicPartition]:
        return [TopicPartition(self._config.topic, partition, offset) for partition in partitions]


def _offsets_in(responses: Iterable[TopicPartition]) -> dict[int, int]:
    return {p.partition: p.offset for p in responses if p.error is None and p.offset >= 0}
