"""The topic as Bytewax reads it: a fixed number of reader slots.

Bytewax asks for the parts of a source once, before any broker may be there, and an empty answer
would end the flow in silence. So the parts are slots, and Kafka partition p belongs to slot p mod
`SLOTS`; partitions are found, and found again, while the flow runs.
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
"""Reader slots; part of the recovery store's layout, so another number is another version."""

STATE_VERSION = 1
LAYOUT = SnapshotLayout(STATE_VERSION, "reader slots", SLOTS)
LOOK_S = 0.25
"""Seconds between two looks at what seldom changes: partitions, doubts, signs of life."""

SAY_EVERY_S = 1.0

SlotState = tuple[int, int, str, bool, dict[int, Position]]
"""Version, slots, topic id, whether the topic is proven, and positions by partition: 40 bytes a
partition, bounded by the topic's partitions."""


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What all slots of a process share.

    Attributes:
        config: How Kafka is reached.
        monitor: Knows the topic's partitions.
        tracker: Where records are opened, and which says when to stop context.
        backpressure: Decides how many records may be read.
        liveness: Hears that the workers turn.
        metrics: Where lag and lost positions are counted.
        shutdown: Ends context.
        assigned: The thread that reads a partition, by partition.
        epoch: When the epoch ends.
        slack: How exactly workers are woken.
        stored: The partitions whose position a recovery store has, if there is one.
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
    """Reads the partitions p with p mod `SLOTS` = its number, through a consumer of its own.

    Args:
        context: What all slots of the process share.
        validation: Validates the topic.
        lag: Where positions are noted.
        number: Which slot it is.
        state: What its last snapshot held, if it resumes.
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
        self._topic_id, proven, self._emitted = _restored(state)
        if proven:
            validation.accept()
        context.stored.update(self._emitted)
        self._snapshot_of: set[int] | None = None  # that may not be stored yet
        self._consumer = PartitionConsumer(
            context.config,
            context.monitor.errors,
            context.metrics,
            self._may_restart,
            context.monitor.refresh_soon,
        )
        self._known = 0  # partitions of the topic when ours were chosen
        self._held_events = HeldEvents(validation)
        self._idle = True
        self._may_read = True
        self._schedule = PollSchedule(context.epoch, context.slack)
        self._look_at = 0.0
        self._say_at = 0.0

    @override
    def next_batch(self) -> Iterable[Record | EventT]:
        with self._context.shutdown.guard("kafka source"):
            self._schedule.polled()
            if self._context.shutdown.stopping.is_set():
                raise StopIteration
            if self._snapshot_of is not None:
                self._is_stored(self._snapshot_of)
            if self._is_time_to_look():
                self._look_at = time.monotonic() + LOOK_S
                self._look()
            elif self._consumer.has_nothing():
                return ()
            return () if self._idle else self._emit(self._read())

    @override
    def next_awake(self) -> datetime | None:
        return self._schedule.next_poll(
            has_partitions=not self._idle,
            is_topic_known=self._known > 0,
            may_read=self._may_read,
            open_pages=self._context.tracker.open_pages,
        )

    @override
    def snapshot(self) -> SlotState:
        with self._context.shutdown.guard("kafka source"):
            self._schedule.epoch_ended()
            self._context.backpressure.epoch_ended(self._number)
            if self._context.tracker.shared:
                self._context.liveness.rest()
            self._snapshot_of = set(self._emitted)
            proven = self._validation.is_valid
            return (STATE_VERSION, SLOTS, self._topic_id, proven, dict(self._emitted))

    @override
    def close(self) -> None:
        with self._context.shutdown.guard("kafka source"):
            self._consumer.close()

    def _is_stored(self, partitions: set[int]) -> None:
        """Note what is stored: Bytewax asks for records again when the epoch before is."""
        self._snapshot_of = None
        self._context.stored.difference_update(range(self._number, self._known, SLOTS))
        self._context.stored.update(partitions)

    def _is_time_to_look(self) -> bool:
        monitor = self._context.monitor
        has_changed = (
            monitor.topic_id not in ("", self._topic_id) or monitor.partitions != self._known
        )
        return self._idle or has_changed or time.monotonic() >= self._look_at

    def _look(self) -> None:
        self._context.liveness.beat()
        self._follow_topic()
        self._consumer.retry_committed_offsets()
        self._report_validation()

    # --- which partitions

    def _follow_topic(self) -> None:
        monitor = self._context.monitor
        if monitor.partitions != self._known:
            self._known = monitor.partitions
            self._follow_partitions(range(self._number, self._known, SLOTS))
        if monitor.topic_id != self._topic_id and monitor.topic_id and self._known:
            self._follow_id(monitor.topic_id)

    def _follow_partitions(self, mine: Iterable[int]) -> None:
        before = set(self._consumer.partitions)
        self._consumer.follow({number: self._emitted.get(number) for number in mine})
        now = set(self._consumer.partitions)
        self._idle = not now
        for partition in before - now:
            self._context.assigned.pop(partition, None)
            self._lag.forget(partition)
        for partition in now - before:
            self._context.assigned[partition] = threading.get_ident()
            self._lag.follow(partition)
            if (resumed := self._emitted.get(partition)) is not None:
                # A tracker that is full of restored pages reads nothing, and yet the lag counts.
                self._lag.read_up_to(partition, resumed[0])

    def _follow_id(self, topic_id: str) -> None:
        """Begin anew when the topic is not the one whose offsets we have."""
        if self._topic_id:
            # Positions of the old topic must not be in a snapshot beside the new one's id.
            self._emitted = self._consumer.restart_from_earliest(
                "the topic was deleted and made anew"
            )
            self._held_events.clear()
            self._validation.restart(topic_id)
        self._topic_id = topic_id

    def _may_restart(self, partition: int, lost_at: float) -> bool:
        """Whether the old offsets are settled and the topic was looked at since.

        Until then an offset could mean two records, and one loss could be told twice: by the
        offset that is out of range, and by the topic's new id.
        """
        is_settled = not self._context.tracker.open_in(partition)
        return is_settled and self._context.monitor.refreshed_at > lost_at

    # --- context

    def _read(self) -> Sequence[Record | EventT]:
        limit = self._records_to_read()
        self._may_read = limit > 0
        records = self._consumer.read(limit, READ_BYTES) if limit else []
        return self._held_events.sift(records)

    def _records_to_read(self) -> int:
        limit, room = self._context.backpressure.records_to_read(), self._held_events.room
        return limit if room is None else min(limit, room)

    def _emit(self, items: Sequence[Record | EventT]) -> Sequence[Record | EventT]:
        if items:
            records = [record_in(item) for item in items]
            self._schedule.records_read()
            self._context.tracker.opened(records)
            moved = {r.partition: (r.offset + 1, r.era) for r in records}
            size_bytes = sum(record.size_bytes for record in records)
            self._context.backpressure.records_read(self._number, len(records), size_bytes)
            self._moved(moved)
        if self._consumer.ends and not len(self._held_events):
            self._moved(self._consumer.ends)
            self._consumer.ends = {}
        return items

    def _moved(self, positions: dict[int, Position]) -> None:
        for partition, (offset, era) in positions.items():
            self._emitted[partition] = (offset, era)
            self._context.tracker.read_up_to(partition, offset)
            self._lag.read_up_to(partition, offset)

    def _report_validation(self) -> None:
        now = time.monotonic()
        if now < self._say_at:
            return
        self._say_at = now + SAY_EVERY_S
        doubt = self._validation.problem(self._context.config.topic)
        if doubt is None:
            self._context.monitor.errors.resolve("events")
        else:
            self._context.monitor.errors.report("events", *doubt)


def _restored(state: SlotState | None) -> tuple[str, bool, dict[int, Position]]:
    if state is None:
        return "", False, {}
    LAYOUT.check(state)
    _, _, topic_id, proven, positions = state
    return topic_id, proven, dict(positions)
