"""The topic as Bytewax reads it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from typing_extensions import override

from connectors import logs
from connectors.heartbeat import Heartbeat
from connectors.kafka import KafkaAccess
from connectors.ledger import Ledger
from connectors.metrics import Metrics
from connectors.probation import LookAhead, Probation
from connectors.records import Record
from connectors.shutdown import Shutdown
from connectors.topic_watch import TopicWatch

SLOTS = 12
"""Reader slots: Kafka partition p belongs to slot p mod 12. Part of the recovery store's layout."""
STATE_VERSION = 1
BATCH_RECORDS = 256
PAGES_PER_EPOCH = 10_000
BYTES_PER_EPOCH = 64 * 1024 * 1024
"""In a cluster, where pages may be open in another process: what a slot reads in one epoch."""
REPLAY_HEADER = "gibsey-replay-of"
CLOSE_TIMEOUT_S = 2.0
IDLE = timedelta(seconds=1)
LAG_EVERY_S = 1.0

Position = tuple[int | None, int]
"""Next offset (None: not known yet) and era of one partition."""
SlotState = tuple[int, int, dict[int, Position]]


class IncompatibleStore(Exception):
    """The recovery store was written by a version with other reader slots."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all slots of a process share.

    Attributes:
        access: How Kafka is reached.
        watch: Knows the topic's partitions.
        ledger: Where records are opened, and which says when to stop reading.
        probation: Doubts the topic until one event could be decoded.
        heartbeat: Hears that the workers turn.
        metrics: Where lag and resets are counted.
        shutdown: Ends reading.
        assigned: The thread that reads a partition, by partition.
    """

    access: KafkaAccess
    watch: TopicWatch
    ledger: Ledger
    probation: Probation
    heartbeat: Heartbeat
    metrics: Metrics
    shutdown: Shutdown
    assigned: dict[int, int]


class PagesSource(FixedPartitionedSource[Record, SlotState]):
    """Reads the records of the topic.

    Item type: `Record`. Unit of parallelism: the reader slot, of which there is a fixed number,
    so that the flow is built without a broker and partitions can be added while it runs.
    Delivery: at least once, from the recovery store; without one from the group's committed
    offset; else from the earliest.

    Args:
        reading: What all slots of the process share.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    @override
    def list_parts(self) -> list[str]:
        return [f"slot-{n:02d}" for n in range(SLOTS)]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: SlotState | None) -> Slot:
        with self._reading.shutdown.guard("kafka source"):
            self._reading.watch.start()
            return Slot(self._reading, int(for_part.removeprefix("slot-")), resume_state)


class Slot(StatefulSourcePartition[Record, SlotState]):
    """Reads the partitions p with p mod `SLOTS` = its number, through a consumer of its own."""

    def __init__(self, reading: Reading, number: int, state: SlotState | None) -> None:
        self._r = reading
        self._number = number
        self._read: dict[int, Position] = _restored(state)  # what the consumer reads next
        self._emitted: dict[int, Position] = dict(self._read)  # what a resume must begin with
        self._consumer: Consumer | None = None
        self._known = 0  # partitions of the topic when ours were assigned
        self._mine: list[int] = []
        self._look_ahead = LookAhead(reading.probation)
        self._epoch_pages = 0
        self._epoch_bytes = 0
        self._lag_due = 0.0
        self._open_at = 0.0
        self._log = logs.get("kafka")

    @override
    def next_batch(self) -> Iterable[Record]:
        with self._r.shutdown.guard("kafka source"):
            self._r.heartbeat.beat()
            if self._r.shutdown.stopping.is_set():
                raise StopIteration
            if not self._is_assigned():
                return []
            records = self._take()
            self._report_lag()
            return records

    @override
    def next_awake(self) -> datetime | None:
        return None if self._mine else datetime.now(timezone.utc) + IDLE

    @override
    def snapshot(self) -> SlotState:
        self._epoch_pages = self._epoch_bytes = 0
        return (STATE_VERSION, SLOTS, dict(self._emitted))

    @override
    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:  # it may hang with a broker that hangs
            closing = threading.Thread(target=consumer.close, daemon=True)
            closing.start()
            closing.join(CLOSE_TIMEOUT_S)

    # --- assignment

    def _is_assigned(self) -> bool:
        known = self._r.watch.partitions
        if known == self._known:
            return self._consumer is not None
        mine = [p for p in range(known) if p % SLOTS == self._number]
        if mine and not self._open():
            return False
        self._known, self._mine = known, mine
        for partition in mine:
            self._r.assigned[partition] = threading.get_ident()
        self._assign()
        return self._consumer is not None

    def _open(self) -> bool:
        if self._consumer is not None:
            return True
        if time.monotonic() < self._open_at:
            return False
        config: dict[str, Any] = {
            **self._r.access.consumer_config(),
            **self._r.watch.faults.callbacks(),
        }
        try:
            self._consumer = Consumer(config)
        except KafkaException as error:
            self._r.watch.faults.unusable(error)
            self._open_at = time.monotonic() + 1
            return False
        self._r.watch.faults.usable()
        return True

    def _assign(self) -> None:
        """Read on where each partition is; drops what was fetched but not taken."""
        if self._consumer is not None:
            topic = self._r.access.topic
            self._consumer.assign([TopicPartition(topic, p, self._start_of(p)) for p in self._mine])

    def _start_of(self, partition: int) -> int:
        offset, _ = self._read.get(partition, (None, 0))
        return OFFSET_STORED if offset is None else offset

    # --- reading

    def _take(self) -> Sequence[Record]:
        wanted = self._wanted()
        messages: list[Message] = []
        if wanted and self._consumer is not None:
            messages = self._consumer.consume(wanted, 0)
        records = [r for r in map(self._record, messages) if r is not None]
        if records:
            self._r.watch.faults.answered()
        self._r.probation.give_back(wanted - len(records))
        if records or len(self._look_ahead):
            records = list(self._look_ahead.sift(records))
        self._say_doubts()
        self._emit(records)
        return records

    def _wanted(self) -> int:
        """How many records may be read now; 0 while the process has enough."""
        if not self._r.ledger.has_room() or self._look_ahead.is_full:
            return 0
        if self._r.ledger.shared and (
            self._epoch_pages >= PAGES_PER_EPOCH or self._epoch_bytes >= BYTES_PER_EPOCH
        ):
            return 0
        return self._r.probation.admit(BATCH_RECORDS)

    def _emit(self, records: Sequence[Record]) -> None:
        if not records:
            return
        self._r.ledger.opened(records)
        for record in records:
            self._emitted[record.partition] = (record.offset + 1, record.era)
            self._epoch_bytes += record.size_bytes
        self._epoch_pages += len(records)
        for partition in {record.partition for record in records}:
            self._r.ledger.read_up_to(partition, self._emitted[partition][0] or 0)

    def _record(self, message: Message) -> Record | None:
        error = message.error()
        if error is not None:
            self._on_error(error, message)
            return None
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None:
            return None
        read, era = self._read.get(partition, (None, 0))
        if read is not None and offset < read:  # fetched before the partition was assigned anew
            return None
        self._read[partition] = (offset + 1, era)
        kind, timestamp_ms = message.timestamp()
        return Record(
            self._r.access.topic,
            partition,
            offset,
            timestamp_ms if kind else 0,
            _bytes(message.key()),
            _bytes(message.value()),
            era,
            _replay_of(message),
        )

    # --- what goes wrong

    def _on_error(self, error: KafkaError, message: Message) -> None:
        code, partition = error.code(), message.partition()
        if code == KafkaError._PARTITION_EOF:
            self._on_end(partition, message.offset())
        elif code == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            self._begin_anew(partition, error.str())
        elif error.fatal():
            self._log.error("client given up, a new one is made", error=error.str())
            self.close()
            self._known = 0
        else:
            self._r.watch.faults.on_error(error)

    def _on_end(self, partition: int | None, offset: int | None) -> None:
        """Note a position that no record has told: an empty partition, transaction markers."""
        if partition is None or offset is None or offset < 0 or len(self._look_ahead):
            return
        _, era = self._read.get(partition, (None, 0))
        self._read[partition] = self._emitted[partition] = (offset, era)
        self._r.ledger.read_up_to(partition, offset)

    def _begin_anew(self, partition: int, text: str) -> None:
        offset, era = self._read.get(partition, (None, 0))
        if "no previously committed offset" in text.lower():
            self._log.info("reading from the earliest", partition=partition)
        else:
            self._log.error(
                "position lost, going on at the earliest: records were deleted before they were "
                "read, or the topic was made anew",
                partition=partition,
                offset=offset,
                reason=text,
            )
            self._r.metrics.offset_resets.inc()
            era += 1
        self._read[partition] = (OFFSET_BEGINNING, era)
        self._assign()

    def _say_doubts(self) -> None:
        topic = self._r.access.topic
        if len(self._look_ahead) and not self._r.probation.frames_pass:
            self._r.watch.faults.trouble(
                "events",
                f"{topic} holds schema-registry frames (first byte 0), not JSON",
                "set the connector's value.converter to JsonConverter, or correct KAFKA_TOPIC",
            )
        elif self._r.probation.failed:
            self._r.watch.faults.trouble(
                "events",
                f"none of the first 100 events of {topic} is a change of a page",
                "correct KAFKA_TOPIC, or the connector's converter; then start again",
            )
        else:
            self._r.watch.faults.over("events")

    # --- lag

    def _report_lag(self) -> None:
        now = time.monotonic()
        if now < self._lag_due or self._consumer is None:
            return
        self._lag_due = now + LAG_EVERY_S
        for partition in self._mine:
            place = TopicPartition(self._r.access.topic, partition)
            with contextlib.suppress(KafkaException):
                _, high = self._consumer.get_watermark_offsets(place, cached=True)
                self._set_lag(partition, high)

    def _set_lag(self, partition: int, high: int) -> None:
        offset, _ = self._emitted.get(partition, (None, 0))
        unread = max(high - offset, 0) if high >= 0 and offset is not None and offset >= 0 else 0
        lag = unread + self._r.ledger.open_in(partition)
        self._r.metrics.lag.labels(str(partition)).set(lag)


def _restored(state: SlotState | None) -> dict[int, Position]:
    if state is None:
        return {}
    version, slots, positions = state
    if (version, slots) != (STATE_VERSION, SLOTS):
        raise IncompatibleStore(
            f"the recovery store was written with {slots} reader slots (layout {version}), this "
            f"program has {SLOTS} (layout {STATE_VERSION}): remove the store, and the stream "
            "begins at the group's committed offset"
        )
    return dict(positions)


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _replay_of(message: Message) -> str | None:
    headers: Any = message.headers() or ()  # typed as if a mapping were possible
    for name, value in headers:
        if name == REPLAY_HEADER and value is not None:
            text = (_bytes(value) or b"").decode(errors="replace")
            return text if _is_origin(text) else None
    return None


def _is_origin(text: str) -> bool:
    """Whether this is `topic:partition:offset`."""
    parts = text.rsplit(":", 2)
    return len(parts) == 3 and all(part.isdecimal() and part.isascii() for part in parts[1:])
