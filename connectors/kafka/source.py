"""The topic as a source of Bytewax: a fixed number of reader slots.

Bytewax lists the parts of a source once, maybe before a broker is available, and no part at all
would silently end the flow. So the parts are slots: slot n reads the Kafka partitions p with p mod
`SLOTS` = n, whichever partitions the topic has while the flow runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import Record
from connectors.core.snapshot_layout import SnapshotLayout
from connectors.delivery.backpressure import READ_BYTES, Backpressure
from connectors.kafka.assignment import Position
from connectors.kafka.config import KafkaConfig
from connectors.kafka.consumer import PartitionConsumer
from connectors.kafka.lag import Lag
from connectors.kafka.metadata_monitor import MetadataMonitor
from connectors.kafka.topic_validation import EventT, HeldEvents, TopicValidation, record_in
from connectors.observability.liveness import Liveness
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from connectors.runtime.tuning.epoch_schedule import EpochSchedule
from connectors.runtime.tuning.poll_schedule import PollSchedule
from connectors.runtime.tuning.timer_slack import TimerSlack

SLOTS = 12
"""Reader slots; part of the recovery store's layout: another number needs another version."""

STATE_VERSION = 1
LAYOUT = SnapshotLayout(STATE_VERSION, "reader slots", SLOTS)

CHECK_S = 0.25
"""Seconds between two checks of the partitions and of the topic's validation."""

SlotState = tuple[int, int, str, bool, dict[int, Position]]
"""Version, slots, topic id, whether the topic is valid, and positions by partition: 40 bytes for
each partition."""


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What all slots of a process share.

    Attributes:
        config: How to connect to Kafka.
        monitor: Knows the topic's partitions.
        tracker: Where records are opened.
        backpressure: Decides how many records may be read.
        liveness: Where workers report that they run.
        metrics: Where lag and lost positions are counted.
        shutdown: Ends the process.
        assigned: The thread that reads a partition, by partition.
        epoch: When the epoch ends.
        slack: How exactly worker threads wake.
        stored: The partitions whose position the recovery store has.
    """

    config: KafkaConfig
    monitor: MetadataMonitor
    tracker: OffsetTracker
    backpressure: Backpressure
    liveness: Liveness
    metrics: Metrics
    shutdown: Shutdown
    assigned: dict[int, int]
    epoch: EpochSchedule
    slack: TimerSlack
    stored: set[int] = field(default_factory=set)


class PagesSource(FixedPartitionedSource[Record | EventT, SlotState], Generic[EventT]):
    """Reads the records of the topic.

    Item type: `Record`, or its decoded form where the topic's validation decoded it. Unit of
    parallelism: the reader slot. Delivery: at least once, in order within each Kafka partition.
    Reading starts at the position in the recovery store, else at the group's committed offset,
    else at the earliest. Deleted offsets are skipped with an error and a count.

    Args:
        context: What all slots of the process share.
        validation: Validates the topic, for all slots of the process.
    """

    def __init__(self, context: SourceContext, validation: TopicValidation[EventT]) -> None:
        self._context = context
        self._validation = validation
        self._lag = Lag(context.tracker, context.metrics)
        context.monitor.measure_for(self._lag)

    @override
    def list_parts(self) -> list[str]:
        return [f"slot-{number:02d}" for number in range(SLOTS)]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: SlotState | None
    ) -> Slot[EventT]:
        with self._context.shutdown.guard("kafka source"):
            self._context.slack.start_thread()
            self._context.monitor.start()
            number = int(for_part.removeprefix("slot-"))
            return Slot(self._context, self._validation, self._lag, number, resume_state)


class Slot(StatefulSourcePartition[Record | EventT, SlotState], Generic[EventT]):
    """Reads its partitions through a consumer of its own.

    Args:
        context: What all slots of the process share.
        validation: Validates the topic.
        lag: Where positions are noted.
        number: The number of the slot.
        state: Its last snapshot, if it resumes.
    """

    def __init__(
        self,
        context: SourceContext,
        validation: TopicValidation[EventT],
        lag: Lag,
        number: int,
        state: SlotState | None = None,
    ) -> None:
        self._context = context
        self._validation = validation
        self._lag = lag
        self._number = number
        self._topic_id, is_valid, self._positions = _restored(state)
        if is_valid:
            validation.accept()
        context.stored.update(self._positions)
        self._snapshot_partitions: set[int] | None = None  # of a snapshot that may not be stored
        self._consumer = PartitionConsumer(
            context.config,
            context.monitor.errors,
            context.metrics,
            self._may_restart,
            context.monitor.refresh_soon,
        )
        self._topic_partitions = 0
        self._held_events = HeldEvents(validation)
        self._may_read = True
        self._schedule = PollSchedule(context.epoch, context.slack)
        self._check_at = 0.0

    @override
    def next_batch(self) -> Iterable[Record | EventT]:
        with self._context.shutdown.guard("kafka source"):
            self._schedule.polled()
            if self._context.shutdown.stopping.is_set():
                raise StopIteration
            if self._snapshot_partitions is not None:
                self._note_stored(self._snapshot_partitions)
            if self._is_check_due():
                self._check()
            elif self._consumer.has_nothing():
                return ()
            return self._emit(self._read()) if self._consumer.has_partitions else ()

    @override
    def next_awake(self) -> datetime | None:
        return self._schedule.next_poll(
            has_partitions=self._consumer.has_partitions,
            is_topic_known=self._topic_partitions > 0,
            may_read=self._may_read,
            open_pages=self._context.tracker.open_pages,
        )

    @override
    def snapshot(self) -> SlotState:
        with self._context.shutdown.guard("kafka source"):
            self._schedule.epoch_ended()
            self._context.backpressure.epoch_ended(self._number)
            if self._context.tracker.shared:
                self._context.liveness.waits_for_cluster()
            self._snapshot_partitions = set(self._positions)
            is_valid = self._validation.is_valid
            return (STATE_VERSION, SLOTS, self._topic_id, is_valid, dict(self._positions))

    @override
    def close(self) -> None:
        with self._context.shutdown.guard("kafka source"):
            self._consumer.close()

    def _note_stored(self, partitions: set[int]) -> None:
        """Note the partitions of the last snapshot: Bytewax polls again when it is stored."""
        self._snapshot_partitions = None
        self._context.stored.difference_update(self._own_partitions())
        self._context.stored.update(partitions)

    # --- reading

    def _read(self) -> Sequence[Record | EventT]:
        limit = min(self._context.backpressure.records_to_read(), self._held_events.room)
        self._may_read = limit > 0
        records = self._consumer.read(limit, READ_BYTES) if limit else []
        return self._held_events.sift(records)

    def _emit(self, items: Sequence[Record | EventT]) -> Sequence[Record | EventT]:
        if items:
            self._open([record_in(item) for item in items])
        if self._consumer.ends and not len(self._held_events):
            self._move_to(self._consumer.ends)
            self._consumer.ends = {}
        return items

    def _open(self, records: Sequence[Record]) -> None:
        self._schedule.records_read()
        self._context.tracker.open(records)
        size_bytes = sum(record.size_bytes for record in records)
        self._context.backpressure.records_read(self._number, len(records), size_bytes)
        self._move_to({r.partition: (r.offset + 1, r.era) for r in records})

    def _move_to(self, positions: dict[int, Position]) -> None:
        for partition, (offset, era) in positions.items():
            self._positions[partition] = (offset, era)
            self._context.tracker.read_up_to(partition, offset)
            self._lag.read_up_to(partition, offset)

    # --- partitions

    def _own_partitions(self) -> range:
        return range(self._number, self._topic_partitions, SLOTS)

    def _is_check_due(self) -> bool:
        monitor = self._context.monitor
        if not self._consumer.has_partitions or monitor.partitions != self._topic_partitions:
            return True
        is_recreated = monitor.topic_id not in ("", self._topic_id)
        return is_recreated or time.monotonic() >= self._check_at

    def _check(self) -> None:
        self._check_at = time.monotonic() + CHECK_S
        self._context.liveness.polled()
        self._follow_topic()
        self._consumer.retry_committed_offsets()
        self._validation.report(self._context.config.topic, self._context.monitor.errors)

    def _follow_topic(self) -> None:
        monitor = self._context.monitor
        if monitor.partitions != self._topic_partitions:
            self._topic_partitions = monitor.partitions
            self._follow_partitions()
        if monitor.topic_id != self._topic_id and monitor.topic_id and self._topic_partitions:
            self._follow_id(monitor.topic_id)

    def _follow_partitions(self) -> None:
        before = self._consumer.partitions
        self._consumer.follow({p: self._positions.get(p) for p in self._own_partitions()})
        now = self._consumer.partitions
        for partition in before - now:
            self._context.assigned.pop(partition, None)
            self._lag.forget(partition)
        for partition in now - before:
            self._context.assigned[partition] = threading.get_ident()
            self._lag.follow(partition)
            if (resumed := self._positions.get(partition)) is not None:
                # The lag counts even while restored pages leave no room to read.
                self._lag.read_up_to(partition, resumed[0])

    def _follow_id(self, topic_id: str) -> None:
        """Start again if the topic is not the one that the positions belong to."""
        if self._topic_id:
            # A snapshot must not hold positions of the old topic beside the id of the new one.
            self._positions = self._consumer.restart_from_earliest("the topic was recreated")
            self._held_events.clear()
            self._validation.restart(topic_id)
        self._topic_id = topic_id

    def _may_restart(self, partition: int, lost_at: float) -> bool:
        """Return whether the old offsets are settled and the topic was refreshed since the loss.

        Until then an offset could mean two records, and one loss could be counted twice: for an
        offset out of range, and for the topic's new id.
        """
        is_settled = not self._context.tracker.open_in(partition)
        return is_settled and self._context.monitor.refreshed_at > lost_at


def _restored(state: SlotState | None) -> tuple[str, bool, dict[int, Position]]:
    if state is None:
        return "", False, {}
    LAYOUT.check(state)
    _, _, topic_id, is_valid, positions = state
    return topic_id, is_valid, dict(positions)
