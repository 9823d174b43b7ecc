"""Commits to the consumer group what is settled, for a restart without a store and lag tools."""

from __future__ import annotations

import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors import logs
from connectors.kafka import KafkaAccess
from connectors.kafka_faults import KafkaFaults
from connectors.ledger import Ledger
from connectors.shutdown import Shutdown

EVERY_S = 1.0
LAST_TIMEOUT_S = 3.0


class OffsetCommitter:
    """A thread that commits the low watermarks each second, and once at the end.

    Args:
        access: How Kafka is reached.
        ledger: Knows the low watermarks.
        faults: Hears of the client's errors.
        shutdown: Ends the thread.
    """

    def __init__(
        self, access: KafkaAccess, ledger: Ledger, faults: KafkaFaults, shutdown: Shutdown
    ) -> None:
        self._access = access
        self._ledger = ledger
        self._faults = faults
        self._shutdown = shutdown
        self._consumer: Consumer | None = None
        self._committed: dict[int, int] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._log = logs.get("kafka")

    def start(self) -> None:
        """Begin; the last commit is made when the process ends."""
        self._shutdown.at_end(self.close)
        threading.Thread(target=self._run, name="offsets", daemon=True).start()

    def _run(self) -> None:
        with self._shutdown.guard("offsets"):
            while not self._ended.wait(EVERY_S):
                self._commit()

    def close(self) -> None:
        """Commit a last time, within `LAST_TIMEOUT_S`."""
        self._ended.set()
        last = threading.Thread(target=self._commit, daemon=True)
        last.start()
        last.join(LAST_TIMEOUT_S)

    def _commit(self) -> None:
        with self._lock:
            marks = self._ledger.low_watermarks()
            due = {p: mark for p, mark in marks.items() if self._committed.get(p) != mark}
            if not due:
                return
            try:
                self._client().commit(
                    offsets=[TopicPartition(self._access.topic, p, o) for p, o in due.items()],
                    asynchronous=False,
                )
            except KafkaException as error:  # the next second tries again; nothing depends on it
                self._log.debug("offsets not committed", reason=str(error.args[0]))
            else:
                self._committed.update(due)

    def _client(self) -> Consumer:
        if self._consumer is None:
            config = {**self._access.consumer_config(), **self._faults.callbacks()}
            self._consumer = Consumer(config)
        return self._consumer
