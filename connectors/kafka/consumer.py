"""A consumer that reads some partitions of the topic and knows where in each it is.

It belongs to no group's rebalancing: partitions and positions are given to it. A position that the
broker does not have any more is an event here, never a silent jump (`auto.offset.reset=error`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from connectors.core.records import Record
from connectors.kafka.assignment import Assignment, LostPosition, Position
from connectors.kafka.clients import open_consumer
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import MISSING, plain
from connectors.kafka.error_monitor import KafkaErrorMonitor, text_of
from connectors.kafka.messages import record_of
from connectors.observability import logs
from connectors.observability.metrics import Metrics

CHUNK = 32
"""Records taken from librdkafka at once: between two chunks the bytes are looked at."""

RETRY_S = 1.0
COMMITTED_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 2.0


class PartitionConsumer:
    """Reads partitions through one consumer, opened at the first of them; one thread's own.

    Args:
        config: How Kafka is reached.
        errors: Hears of the consumer's errors.
        metrics: Where lost positions are counted.
        may_restart: Asked, with a partition and when its position was lost, whether it may be
            read from the earliest now.
        on_change: Called when the topic is not what it was, so that somebody looks.
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
        self._may_restart = may_restart
        self._on_change = on_change
        self._consumer: Consumer | None = None
        self._open_at = 0.0
        self._assignments: dict[int, Assignment] = {}
        self._fetched: list[Message] = []  # taken from librdkafka, and not looked at
        self.ends: dict[int, Position] = {}
        self._unassigned = False  # whether some place waits for its assignment
        self._log = logs.get("kafka")

    @property
    def partitions(self) -> list[int]:
        """The partitions that are read."""
        return list(self._assignments)

    def follow(self, starts: Mapping[int, Position | None]) -> None:
        """Read these partitions and no others; those that are read already stay where they are.

        Args:
            starts: Where to begin, by partition; None: the group's committed offset, or else the
                earliest.
        """
        for partition in [p for p in self._assignments if p not in starts]:
            self._unassign(partition)
            del self._assignments[partition]
        for partition, start in starts.items():
            if partition not in self._assignments:
                offset, era = start or (OFFSET_STORED, 0)
                self._assignments[partition] = Assignment(offset, era)
                self._unassigned = True

    def has_nothing(self) -> bool:
        """Whether `read` would find nothing to do; costs next to nothing.

        A slot asks that up to a thousand times a second.
        """
        if self._consumer is None or self._unassigned:
            return False
        if not self._fetched:
            self._fetched = self._consumer.consume(CHUNK, 0)
        return not self._fetched

    def read(self, limit: int, limit_bytes: int) -> list[Record]:
        """Take what was fetched; never blocks.

        Args:
            limit: Records to return at most.
            limit_bytes: Bytes after which no further chunk is taken.

        Returns:
            Records, in order within each partition. `ends` holds then the position after records
            that nobody sees (transaction markers, or none at all), for each partition whose end
            was reached.
        """
        self.ends = {}
        consumer = self._ready()
        records: list[Record] = []
        if consumer is None:
            return records
        size = 0
        # a fatal error among the messages replaces the consumer
        while limit > len(records) and size < limit_bytes and consumer is self._consumer:
            asked = min(CHUNK, limit - len(records))
            messages = self._take(consumer, asked)
            for message in messages:
                if (record := self._taken(message)) is not None:
                    records.append(record)
                    size += record.size_bytes
            if len(messages) < asked:
                break
        if records or self.ends:
            self._errors.records_arrived()
        return records

    def _take(self, consumer: Consumer, most: int) -> list[Message]:
        if not self._fetched:
            return consumer.consume(most, 0)
        taken, self._fetched = self._fetched[:most], self._fetched[most:]
        return taken

    def restart_from_earliest(self, why: str) -> dict[int, Position]:
        """Read all partitions from the earliest, in a new era, because their topic was made anew.

        Args:
            why: For the log.

        Returns:
            Where each is read from now; those that begin at the committed offset are left out.
        """
        for partition, place in self._assignments.items():
            if place.offset > 0:
                self._position_lost(partition, place, place.offset, why)
        known = {
            p: place for p, place in self._assignments.items() if place.offset != OFFSET_STORED
        }
        return {p: (place.offset, place.era) for p, place in known.items()}

    def close(self) -> None:
        """Close the consumer, within `CLOSE_TIMEOUT_S`: it may hang with a broker that hangs."""
        consumer, self._consumer = self._consumer, None
        self._fetched = []
        if consumer is not None:
            closing = threading.Thread(target=consumer.close, name="kafka-close", daemon=True)
            closing.start()
            closing.join(CLOSE_TIMEOUT_S)

    # --- assignment

    def _ready(self) -> Consumer | None:
        """The consumer, with everything assigned that may be."""
        if self._consumer is None and not self._open():
            return None
        if self._unassigned:
            try:
                self._assign_waiting()
            except KafkaException as error:
                self._reopen(text_of(error))
        return self._consumer

    def _open(self) -> bool:
        if not self._assignments or time.monotonic() < self._open_at:
            return False
        try:
            self._consumer = open_consumer(self._config, self._errors)
        except KafkaException as error:
            self._errors.client_failed(error)
            self._open_at = time.monotonic() + RETRY_S
            return False
        self._errors.client_opened()
        return True

    def _assign_waiting(self) -> None:
        now = time.monotonic()
        waiting = {p: place for p, place in self._assignments.items() if not place.assigned}
        ready = [p for p, place in waiting.items() if self._may_assign(p, place, now)]
        topic = self._config.topic
        assert self._consumer is not None  # noqa: S101 - `_ready` has opened it
        if ready:
            self._consumer.incremental_assign(
                [TopicPartition(topic, p, waiting[p].offset) for p in ready]
            )
            for partition in ready:
                waiting[partition].assigned = True
                waiting[partition].answer_by = now + COMMITTED_TIMEOUT_S
        self._unassigned = len(ready) < len(waiting)

    def retry_committed_offsets(self) -> None:
        """Assign partitions anew whose committed offset was not told; now and then.

        librdkafka forgets its question where a broker that is still starting answers "Not
        coordinator" (seen with 2.16), and the partition would never be read.
        """
        now = time.monotonic()
        for partition, place in self._assignments.items():
            if place.assigned and place.offset == OFFSET_STORED and now > place.answer_by:
                self._log.warning("committed offset not told, asking again", partition=partition)
                self._unassign(partition)

    def _may_assign(self, partition: int, place: Assignment, now: float) -> bool:
        if now < place.not_before:
            return False
        return place.lost is None or self._may_restart(partition, place.lost.at)

    def _unassign(self, partition: int) -> None:
        place = self._assignments[partition]
        self._unassigned = True
        # they will be read anew, and must not be read twice
        self._fetched = [m for m in self._fetched if m.partition() != partition]
        if place.assigned and self._consumer is not None:
            try:
                self._consumer.incremental_unassign([TopicPartition(self._config.topic, partition)])
            except KafkaException as error:
                self._reopen(text_of(error))
        place.assigned = False

    # --- what comes

    def _taken(self, message: Message) -> Record | None:
        partition, offset = message.partition(), message.offset()
        place = self._assignments.get(-1 if partition is None else partition)
        if (error := message.error()) is not None:
            self._on_error(error, partition, place, offset)
            return None
        # what was fetched before a partition was taken away is read anew, or not ours
        if place is None or not place.assigned or partition is None or offset is None:
            return None
        self._log_loss(partition, place, offset)
        place.offset = offset + 1
        if self.ends:
            self.ends.pop(partition, None)  # it was no end: this record came behind it
        return record_of(message, self._config.topic, place.era)

    def _on_error(
        self, error: KafkaError, partition: int | None, place: Assignment | None, offset: int | None
    ) -> None:
        code = error.code()
        if error.fatal():
            self._reopen(error.str())
        elif code == KafkaError._PARTITION_EOF:
            if partition is not None and place is not None and offset is not None:
                self._at_end(partition, place, offset)
        elif code == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None and place is not None:
                self._no_offset(partition, place, offset, error.str())
        else:
            self._errors.on_error(error)
            if code in MISSING:
                self._on_change()

    def _at_end(self, partition: int, place: Assignment, offset: int) -> None:
        if not place.assigned or offset < 0:
            return
        self._log_loss(partition, place, offset)
        place.offset = max(place.offset, offset)
        self.ends[partition] = (place.offset, place.era)

    def _no_offset(self, partition: int, place: Assignment, offset: int | None, text: str) -> None:
        """Response that the broker has no record at the position, or knows no position."""
        if not place.assigned:
            return
        if "No offset stored" in text:
            self._log.info("nothing committed, reading from the earliest", partition=partition)
            self._unassign(partition)
            place.offset = OFFSET_BEGINNING
        elif "out of range" in text or "truncation" in text:
            wanted = place.offset if place.offset >= 0 else offset
            self._position_lost(partition, place, -1 if wanted is None else wanted, plain(text))
        else:  # the position could not be looked up this time; it is not lost
            self._errors.report("reading", f"partition {partition}: {plain(text)}")
            self._unassign(partition)
            place.not_before = time.monotonic() + RETRY_S

    def _position_lost(self, partition: int, place: Assignment, wanted: int, why: str) -> None:
        self._unassign(partition)
        self._metrics.offset_resets.inc()
        self._log.warning("position lost", partition=partition, offset=wanted, reason=why)
        place.lost = LostPosition(wanted, time.monotonic(), why)
        place.offset = OFFSET_BEGINNING
        place.era += 1
        self._on_change()

    def _log_loss(self, partition: int, place: Assignment, offset: int) -> None:
        lost, place.lost = place.lost, None
        if lost is None:
            return
        deleted = 0 <= lost.offset < offset
        self._log.error(
            "position lost: records went unread, going on at the earliest",
            partition=partition,
            wanted=lost.offset,
            offset=offset,
            lost=offset - lost.offset if deleted else "unknown (topic made anew or cut short)",
            reason=lost.why,
        )

    def _reopen(self, why: str) -> None:
        """Go on with a new consumer, from where this one was."""
        self._log.error("consumer given up, a new one is made", reason=plain(why))
        self.close()
        self._open_at = time.monotonic() + RETRY_S
        for place in self._assignments.values():
            place.assigned = False
        self._unassigned = True
