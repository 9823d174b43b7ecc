"""Commits to the consumer group what is settled, for a restart without a store and lag tools."""

from __future__ import annotations

import threading
import time
from collections.abc import Set

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.core.offset_tracker import OffsetTracker
from connectors.kafka.clients import open_consumer
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import plain
from connectors.kafka.error_monitor import KafkaErrorMonitor, code_of, text_of
from connectors.observability import logs
from connectors.runtime.shutdown import Shutdown

EVERY_S = 1.0
LAST_TIMEOUT_S = 3.0
WARN_EVERY_S = 60.0


class OffsetCommitter:
    """A thread that commits the low watermarks each second, and once at the end.

    For runs of one process only: in a cluster a page may settle in another process than the one
    that read it. Its consumer never subscribes and is assigned nothing.

    With a recovery store a partition is committed once the store has its position. Else a kill
    before the first snapshot would let the next start begin behind pages that its memory of
    versions does not know, and take a late event of theirs for new.

    Args:
        config: How Kafka is reached.
        tracker: Knows the low watermarks.
        errors: Hears of the client's errors.
        shutdown: Ends the thread.
        stored: The partitions whose position the recovery store has; None without a store.
    """

    def __init__(
        self,
        config: KafkaConfig,
        tracker: OffsetTracker,
        errors: KafkaErrorMonitor,
        shutdown: Shutdown,
        stored: Set[int] | None = None,
    ) -> None:
        self._config = config
        self._tracker = tracker
        self._errors = errors
        self._shutdown = shutdown
        self._stored = stored
        self._consumer: Consumer | None = None
        self._committed: dict[int, int] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._warned_at = float("-inf")
        self._log = logs.get("kafka")

    def start(self) -> None:
        """Begin; the last commit is made when the process ends."""
        self._shutdown.at_end(self.close)
        threading.Thread(target=self._run, name="offsets", daemon=True).start()

    def close(self) -> None:
        """Commit a last time, within `LAST_TIMEOUT_S`."""
        self._ended.set()
        last = threading.Thread(target=self._commit, name="last-offsets", daemon=True)
        last.start()
        last.join(LAST_TIMEOUT_S)

    def _run(self) -> None:
        with self._shutdown.guard("offsets"):
            while not self._ended.wait(EVERY_S):
                self._commit()

    def _commit(self) -> None:
        with self._lock:
            marks = self._tracker.low_watermarks()
            if self._stored is not None:
                marks = {p: mark for p, mark in marks.items() if p in self._stored}
            due = {p: mark for p, mark in marks.items() if self._committed.get(p) != mark}
            if due:
                self._try(due)

    def _try(self, due: dict[int, int]) -> None:
        places = [TopicPartition(self._config.topic, p, offset) for p, offset in due.items()]
        try:
            client = self._client()
            done = client.commit(offsets=places, asynchronous=False)
            client.poll(0)  # serves the callbacks
        except KafkaException as error:
            self._failed(code_of(error), text_of(error))
            return
        refused = [place.error for place in done if place.error is not None]
        good = {place.partition for place in done if place.error is None}
        self._committed.update({p: mark for p, mark in due.items() if p in good})
        if refused:
            self._failed(refused[0].code(), refused[0].str())
        else:
            self._errors.resolve("group")

    def _failed(self, code: int, text: str) -> None:
        """Say so; the next second tries again, and the stream goes on meanwhile."""
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            self._errors.on_error(KafkaError(code))
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            self._log.warning("position not committed", reason=plain(text), remedy=_remedy(code))

    def _client(self) -> Consumer:
        if self._consumer is None:
            self._consumer = open_consumer(self._config, self._errors)
        return self._consumer


def _remedy(code: int) -> str:
    if code in _MEMBERS:
        return "another program is a member of the group; set KAFKA_GROUP to one of its own"
    return "none needed: it is tried again each second"


_MEMBERS = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
)
