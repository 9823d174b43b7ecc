"""Reads partitions of the topic, and knows the position in each.

The consumer takes no part in the group's rebalancing: its caller assigns partitions and positions.
A position that the broker no longer has is an error here, never a silent jump
(`auto.offset.reset=error`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message

from connectors.core.records import Record
from connectors.kafka.assignment import Assignment, Assignments, LostPosition, Position
from connectors.kafka.clients import open_consumer
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import MISSING, plain
from connectors.kafka.error_monitor import KafkaErrorMonitor, text_of
from connectors.kafka.messages import record_of
from connectors.observability import logs
from connectors.observability.metrics import Metrics

FETCH_MESSAGES = 32
"""Messages taken from librdkafka at a time; the limit of bytes is checked in between."""

RETRY_S = 1.0
CLOSE_TIMEOUT_S = 2.0


class PartitionConsumer:
    """Reads partitions through one consumer, which opens with the first of them.

    Only one thread may use it.

    Args:
        config: How to connect to Kafka.
        errors: Where errors are reported.
        metrics: Where lost positions are counted.
        may_restart: Whether a partition whose position was lost, and when, may be read from the
            earliest record now.
        on_change: Called when the topic may have changed.

    Attributes:
        ends: The position after records that are not visible (transaction markers), for each
            partition whose end the last `read` reached.
    """

    def __init__(
        self,
        config: KafkaConfig,
        errors: KafkaErrorMonitor,
        metrics: Metrics,
        may_restart: Callable[[int, float], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._config = config
        self._errors = errors
        self._metrics = metrics
        self._on_change = on_change
        self._consumer: Consumer | None = None
        self._not_before = 0.0  # when the consumer may open (monotonic seconds)
        self._assignments = Assignments(config.topic, may_restart)
        self._fetched: list[Message] = []  # taken from librdkafka, not yet read
        self.ends: dict[int, Position] = {}
        self._log = logs.get("kafka")

    @property
    def partitions(self) -> set[int]:
        """The partitions that this consumer reads."""
        return self._assignments.partitions

    @property
    def has_partitions(self) -> bool:
        """Whether this consumer reads any partition."""
        return not self._assignments.is_empty

    def follow(self, starts: Mapping[int, Position | None]) -> None:
        """Read these partitions and no others; those already read keep their position.

        Args:
            starts: Where to start, by partition. None: at the group's committed offset, or else at
                the earliest record.
        """
        for partition in self.partitions - starts.keys():
            self._unassign(partition)
            self._assignments.remove(partition)
        for partition in starts.keys() - self.partitions:
            self._assignments.add(partition, starts[partition])

    def has_nothing(self) -> bool:
        """Return whether `read` has nothing to do; cheap, because a slot calls it at each poll."""
        if self._consumer is None or self._assignments.has_waiting:
            return False
        if not self._fetched:
            self._fetched = self._consumer.consume(FETCH_MESSAGES, 0)
        return not self._fetched

    def read(self, limit: int, limit_bytes: int) -> list[Record]:
        """Return fetched records, in order within each partition; never blocks.

        Args:
            limit: Most records.
            limit_bytes: Bytes after which no more messages are taken.
        """
        self.ends = {}
        consumer = self._ready()
        records: list[Record] = []
        if consumer is None:
            return records
        size_bytes = 0
        # a fatal error among the messages replaces the consumer
        while limit > len(records) and size_bytes < limit_bytes and consumer is self._consumer:
            count = min(FETCH_MESSAGES, limit - len(records))
            messages = self._take(consumer, count)
            for message in messages:
                if (record := self._record_in(message)) is not None:
                    records.append(record)
                    size_bytes += record.size_bytes
            if len(messages) < count:
                break
        if records or self.ends:
            self._errors.records_arrived()
        return records

    def restart_from_earliest(self, reason: str) -> dict[int, Position]:
        """Read all partitions from the earliest record, in a new era; the topic was recreated.

        Args:
            reason: For the log.

        Returns:
            Where each partition is read now, without those that start at the committed offset.
        """
        for partition, assignment in self._assignments.items():
            if assignment.offset > 0:
                self._lose_position(partition, assignment, assignment.offset, reason)
        return self._assignments.positions()

    def retry_committed_offsets(self) -> None:
        """Request committed offsets again that are not known in time.

        librdkafka drops its request if a starting broker responds "Not coordinator" (seen with
        2.16), and the partition would never be read.
        """
        for partition in self._assignments.without_committed_offset():
            self._log.warning("committed offset unknown, requesting it again", partition=partition)
            self._unassign(partition)

    def close(self) -> None:
        """Close the consumer; waits up to `CLOSE_TIMEOUT_S`, because a hanging broker blocks it."""
        consumer, self._consumer = self._consumer, None
        self._fetched = []
        if consumer is not None:
            closing = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
            closing.start()
            closing.join(CLOSE_TIMEOUT_S)

    # --- the client

    def _ready(self) -> Consumer | None:
        """Return the consumer, after it was assigned all partitions that may be assigned."""
        if self._consumer is None and not self._open():
            return None
        if self._consumer is not None and self._assignments.has_waiting:
            try:
                self._assignments.assign_waiting(self._consumer)
            except KafkaException as error:
                self._reopen(text_of(error))
        return self._consumer

    def _open(self) -> bool:
        if not self.has_partitions or time.monotonic() < self._not_before:
            return False
        try:
            self._consumer = open_consumer(self._config, self._errors)
        except KafkaException as error:
            self._errors.client_failed(error)
            self._not_before = time.monotonic() + RETRY_S
            return False
        self._errors.client_opened()
        return True

    def _reopen(self, reason: str) -> None:
        """Continue with a new consumer, at the same positions."""
        self._log.error("consumer failed, opening a new one", reason=plain(reason))
        self.close()
        self._not_before = time.monotonic() + RETRY_S
        self._assignments.unassign_all()

    def _unassign(self, partition: int) -> None:
        # fetched messages are fetched again, and must not be read twice
        self._fetched = [m for m in self._fetched if m.partition() != partition]
        try:
            self._assignments.unassign(partition, self._consumer)
        except KafkaException as error:
            self._reopen(text_of(error))

    # --- messages

    def _take(self, consumer: Consumer, count: int) -> list[Message]:
        if not self._fetched:
            return consumer.consume(count, 0)
        taken, self._fetched = self._fetched[:count], self._fetched[count:]
        return taken

    def _record_in(self, message: Message) -> Record | None:
        partition, offset = message.partition(), message.offset()
        assignment = self._assignments.get(partition)
        if (error := message.error()) is not None:
            self._on_error(error, partition, assignment, offset)
            return None
        # messages fetched before their partition was unassigned are fetched again, or not ours
        if assignment is None or not assignment.is_assigned or partition is None or offset is None:
            return None
        self._log_loss(partition, assignment, offset)
        assignment.offset = offset + 1
        if self.ends:
            self.ends.pop(partition, None)  # a record follows, so that was not the end
        return record_of(message, self._config.topic, assignment.era)

    def _on_error(
        self,
        error: KafkaError,
        partition: int | None,
        assignment: Assignment | None,
        offset: int | None,
    ) -> None:
        code = error.code()
        if error.fatal():
            self._reopen(error.str())
        elif code in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
            if partition is None or assignment is None or not assignment.is_assigned:
                return
            if code == KafkaError._PARTITION_EOF:
                self._at_end(partition, assignment, -1 if offset is None else offset)
            else:
                self._without_position(partition, assignment, offset, error.str())
        else:
            self._errors.on_error(error)
            if code in MISSING:
                self._on_change()

    # --- positions

    def _at_end(self, partition: int, assignment: Assignment, offset: int) -> None:
        if offset < 0:
            return
        self._log_loss(partition, assignment, offset)
        assignment.offset = max(assignment.offset, offset)
        self.ends[partition] = (assignment.offset, assignment.era)

    def _without_position(
        self, partition: int, assignment: Assignment, offset: int | None, text: str
    ) -> None:
        """The broker has no record at the position, or no committed position."""
        if "No offset stored" in text:
            self._log.info("no committed offset, reading from the earliest", partition=partition)
            self._unassign(partition)
            assignment.offset = OFFSET_BEGINNING
        elif "out of range" in text or "truncation" in text:
            wanted = assignment.offset if assignment.offset >= 0 else offset
            self._lose_position(
                partition, assignment, -1 if wanted is None else wanted, plain(text)
            )
        else:  # the position could not be looked up now; it is not lost
            self._errors.report("reading", f"partition {partition}: {plain(text)}")
            self._unassign(partition)
            assignment.not_before = time.monotonic() + RETRY_S

    def _lose_position(
        self, partition: int, assignment: Assignment, wanted: int, reason: str
    ) -> None:
        self._unassign(partition)
        self._metrics.offset_resets.inc()
        self._log.warning("position lost", partition=partition, offset=wanted, reason=reason)
        assignment.lose(LostPosition(wanted, time.monotonic(), reason))
        self._on_change()

    def _log_loss(self, partition: int, assignment: Assignment, offset: int) -> None:
        if assignment.lost is None or (lost := assignment.take_loss()) is None:
            return
        is_known = 0 <= lost.offset < offset
        self._log.error(
            "position lost: records were not read, reading from the earliest",
            partition=partition,
            wanted=lost.offset,
            offset=offset,
            lost=offset - lost.offset if is_known else "unknown (topic recreated or truncated)",
            reason=lost.reason,
        )
