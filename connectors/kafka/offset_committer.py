"""Commits settled offsets to the consumer group, for lag tools and restarts without a store."""

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

INTERVAL_S = 1.0
LAST_TIMEOUT_S = 3.0
WARN_INTERVAL_S = 60.0


class OffsetCommitter:
    """Commits the tracker's low watermarks each second and when the process ends.

    Only a single process commits: in a cluster a page may settle in another process than the one
    that read it. The consumer never subscribes, and no partition is assigned to it.

    With a recovery store, a partition is committed only after the store has its position.
    Otherwise a kill before the first snapshot would let the next run start behind pages whose
    versions are not in the store, and it could treat a late event of such a page as a new one.

    Args:
        config: How to connect to Kafka.
        tracker: Knows the low watermarks.
        errors: Where the client's errors are reported.
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
        """Start the thread; the last commit follows when the process ends."""
        self._shutdown.at_end(self.close)
        threading.Thread(target=self._run, name="offsets", daemon=True).start()

    def close(self) -> None:
        """Commit for the last time; waits up to `LAST_TIMEOUT_S`."""
        self._ended.set()
        last = threading.Thread(target=self._commit, name="last-offsets", daemon=True)
        last.start()
        last.join(LAST_TIMEOUT_S)

    def _run(self) -> None:
        with self._shutdown.guard("offsets"):
            while not self._ended.wait(INTERVAL_S):
                self._commit()

    def _commit(self) -> None:
        with self._lock:
            marks = self._tracker.low_watermarks()
            if self._stored is not None:
                marks = {p: mark for p, mark in marks.items() if p in self._stored}
            new = {p: mark for p, mark in marks.items() if self._committed.get(p) != mark}
            if new:
                self._send(new)

    def _send(self, marks: dict[int, int]) -> None:
        offsets = [TopicPartition(self._config.topic, p, mark) for p, mark in marks.items()]
        try:
            client = self._client()
            results = client.commit(offsets=offsets, asynchronous=False)
            client.poll(0)  # runs the callbacks
        except KafkaException as error:
            self._failed(code_of(error), text_of(error))
            return
        errors = [result.error for result in results if result.error is not None]
        accepted = {result.partition for result in results if result.error is None}
        self._committed.update({p: mark for p, mark in marks.items() if p in accepted})
        if errors:
            self._failed(errors[0].code(), errors[0].str())
        else:
            self._errors.resolve("group")

    def _failed(self, code: int, text: str) -> None:
        """Report a failed commit; the next second retries it."""
        if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
            self._errors.on_error(KafkaError(code))
        now = time.monotonic()
        if now - self._warned_at >= WARN_INTERVAL_S:
            self._warned_at = now
            self._log.warning("position not committed", reason=plain(text), remedy=_remedy(code))

    def _client(self) -> Consumer:
        if self._consumer is None:
            self._consumer = open_consumer(self._config, self._errors)
        return self._consumer


def _remedy(code: int) -> str:
    if code in _MEMBER_ERRORS:
        return (
            "another program is a member of the group: "
            "set KAFKA_GROUP to a group that no other program uses"
        )
    return "none: the commit is retried each second"


_MEMBER_ERRORS = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
)
