"""Looks after the topic, off the worker threads: is it there, and how many partitions has it."""

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

from connectors.kafka.admin import TopicIds
from connectors.kafka.clients import open_consumer
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.observability import logs
from connectors.observability.stalls import Stalls
from connectors.runtime.shutdown import Shutdown

ASK_TIMEOUT_S = 2.0
TURN_S = 1.0
SOON_S = 0.05
LOOK_AGAIN_S = 30.0
"""Partitions that are added are read within a minute."""


class LagObserver(Protocol):
    """What wants to know, once a second, where partitions end."""

    def partitions(self) -> Iterable[int]:
        """The partitions in question."""

    def unplaced(self) -> Sequence[int]:
        """Those of which it does not know yet where reading begins."""

    def begins_at(self, starts: Mapping[int, int]) -> None:
        """Take the offset at which reading begins, by partition."""

    def measure(self, ends: Mapping[int, int]) -> None:
        """Take the offset after the last record, by partition."""


class MetadataMonitor:
    """One thread a process that asks the broker about the topic, and says what is wrong.

    Args:
        config: How Kafka is reached.
        stalls: Where it is said.
        shutdown: Ends the thread.
        workers: Worker threads of all processes: more than partitions is worth a word.

    Attributes:
        partitions: How many partitions the topic has; 0 until that is known.
        topic_id: Tells a topic from one of the same name made anew; empty until or unless known.
        refreshed_at: When the last look began that was answered (monotonic seconds).
        errors: Hears of every client's errors; for other clients' configurations.
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
        self._look_due = 0.0
        self._last_look = float("-inf")
        self._measure_due = 0.0
        self._measured: LagObserver | None = None
        self._log = logs.get("kafka")
        self.partitions = 0
        self.topic_id = ""
        self.refreshed_at = float("-inf")
        self.errors = KafkaErrorMonitor(config, stalls, on_problem=self.refresh_soon)
        self._ids = TopicIds(config, self.errors)

    def start(self) -> None:
        """Begin to monitor; again is harmless."""
        if self._started.acquire(blocking=False):
            self._shutdown.on_stop(self._wake.set)
            threading.Thread(target=self._run, name="topic-monitor", daemon=True).start()

    def measure_for(self, measured: LagObserver) -> None:
        """Have `measured` told, once a second, where its partitions end."""
        self._measured = measured

    def refresh_soon(self) -> None:
        """Ask about the topic at once."""
        self._look_due = 0.0
        self._wake.set()

    def _run(self) -> None:
        with self._shutdown.guard("topic monitor"):
            while not self._shutdown.stopping.is_set():
                self._turn()
                self._wake.wait(SOON_S if self._ids.is_asked else TURN_S)
                self._wake.clear()
                self._shutdown.stopping.wait(SOON_S)  # problems may come many a second

    def _turn(self) -> None:
        client = self._opened()
        if client is None:
            return
        try:
            if time.monotonic() >= self._look_due or self.errors.current() is not None:
                self._look(client)
            self._follow_id()
            if time.monotonic() >= self._measure_due:
                self._measure(client)
        except KafkaException:  # the cause is told by the callbacks
            self.refresh_soon()
        client.poll(0)  # serves the callbacks
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

    def _look(self, client: Consumer) -> None:
        began = time.monotonic()
        topics = client.list_topics(self._config.topic, timeout=ASK_TIMEOUT_S).topics
        self.errors.broker_answered()
        topic = topics.get(self._config.topic)
        if topic is None or (topic.error is not None and not topic.partitions):
            if topic is not None:
                self.errors.on_error(topic.error)
            return
        self.errors.resolve("topic")
        self._look_due = began + LOOK_AGAIN_S
        self._found(len(topic.partitions))
        self._last_look = began

    def _follow_id(self) -> None:
        """Look at the topic's id after each look at the topic, where the broker has ids."""
        answer = self._ids.answer()
        if answer is not None:
            self.topic_id, self.refreshed_at = answer
        if self._ids.are_hopeless:
            self.refreshed_at = self._last_look
        elif self._last_look > self.refreshed_at and not self._ids.is_asked:
            self._ids.ask()

    def _found(self, partitions: int) -> None:
        if partitions != self.partitions:
            self._log.info("topic", topic=self._config.topic, partitions=partitions)
            self.partitions = partitions
            self._judge_workers()

    def _judge_workers(self) -> None:
        idle = self._workers - self.partitions
        if idle > 0:
            self._log.warning(
                f"more workers than partitions: {idle} of {self._workers} read nothing",
                topic=self._config.topic,
                partitions=self.partitions,
                remedy=f"start {self.partitions} workers in all, or give the topic more partitions",
            )

    def _measure(self, client: Consumer) -> None:
        """Ask where the partitions end; also the sign of life of an idle stream's broker."""
        self._measure_due = time.monotonic() + TURN_S / 2
        asked = list(self._measured.partitions()) if self._measured else []
        if self._measured is None or not asked:
            return
        if unplaced := self._measured.unplaced():
            self._measured.begins_at(self._starts(client, unplaced))
        places = self._places(asked, OFFSET_END)
        ends = _offsets(client.offsets_for_times(places, timeout=ASK_TIMEOUT_S))
        if ends:
            self.errors.broker_answered()
        self._measured.measure(ends)

    def _starts(self, client: Consumer, partitions: Sequence[int]) -> dict[int, int]:
        """Where reading begins that has not begun: the committed offset, else the earliest."""
        committed = client.committed(self._places(partitions), timeout=ASK_TIMEOUT_S)
        starts = _offsets(committed)
        rest = [number for number in partitions if number not in starts]
        if rest:
            places = self._places(rest, OFFSET_BEGINNING)
            starts |= _offsets(client.offsets_for_times(places, timeout=ASK_TIMEOUT_S))
        return starts

    def _places(
        self, partitions: Iterable[int], offset: int = OFFSET_INVALID
    ) -> list[TopicPartition]:
        return [TopicPartition(self._config.topic, number, offset) for number in partitions]


def _offsets(answered: Iterable[TopicPartition]) -> dict[int, int]:
    return {p.partition: p.offset for p in answered if p.error is None and p.offset >= 0}
