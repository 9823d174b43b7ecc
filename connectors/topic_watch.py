"""Looks after the topic, off the worker threads: is it there, how many partitions has it."""

from __future__ import annotations

import threading

from confluent_kafka import Consumer, KafkaError, KafkaException

from connectors import logs
from connectors.kafka import KafkaAccess
from connectors.kafka_faults import KafkaFaults
from connectors.shutdown import Shutdown
from connectors.stalls import Stalls

ASK_TIMEOUT_S = 5.0
RETRY_S = 1.0
LOOK_AGAIN_S = 30.0
"""Partitions that are added are read within a minute."""


class TopicWatch:
    """One thread a process that asks the broker about the topic, and says what is wrong.

    Args:
        access: How Kafka is reached.
        stalls: Where it is said.
        shutdown: Ends the thread.

    Attributes:
        partitions: How many partitions the topic has; 0 until that is known.
        faults: Hears of every client's errors; for other clients' configurations.
    """

    def __init__(self, access: KafkaAccess, stalls: Stalls, shutdown: Shutdown) -> None:
        self._access = access
        self._shutdown = shutdown
        self._look_now = threading.Event()
        self._started = threading.Lock()
        self._client: Consumer | None = None
        self._log = logs.get("kafka")
        self.partitions = 0
        self.faults = KafkaFaults(access, stalls)

    def start(self) -> None:
        """Begin to watch; again is harmless."""
        if self._started.acquire(blocking=False):
            self._shutdown.on_stop(self._look_now.set)
            threading.Thread(target=self._run, name="topic-watch", daemon=True).start()

    def _run(self) -> None:
        with self._shutdown.guard("topic watch"):
            while not self._shutdown.stopping.is_set():
                well = self._look()
                self._look_now.clear()
                # a pause in any case: a broker that goes away tells so many times a second
                if not self._shutdown.stopping.wait(RETRY_S) and well:
                    self._look_now.wait(LOOK_AGAIN_S)

    def _look(self) -> bool:
        try:
            found = self._ask()
        except KafkaException as error:
            self.faults.on_error(error.args[0])
            return False
        if not found:
            self.faults.trouble(
                "topic",
                f"the topic {self._access.topic} does not exist",
                "make it, or set KAFKA_TOPIC (Debezium names topics prefix.keyspace.table)",
            )
            return False
        self.faults.answered()
        if found != self.partitions:
            self._log.info("topic", topic=self._access.topic, partitions=found)
            self.partitions = found
        return True

    def _ask(self) -> int:
        if self._client is None:
            self._client = self._open()
        self._client.poll(0)  # serves the callbacks
        try:
            topics = self._client.list_topics(self._access.topic, timeout=ASK_TIMEOUT_S).topics
        finally:
            self._client.poll(0)
        topic = topics.get(self._access.topic)
        if topic is None:
            return 0
        if topic.error is not None and topic.error.code() not in _MISSING:
            raise KafkaException(topic.error)
        return 0 if topic.error is not None else len(topic.partitions)

    def _open(self) -> Consumer:
        try:
            client = Consumer({**self._access.consumer_config(), **self.faults.callbacks()})
        except KafkaException as error:
            self.faults.unusable(error)
            raise
        self.faults.usable()
        return client


_MISSING = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.LEADER_NOT_AVAILABLE,
)
