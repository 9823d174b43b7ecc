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

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from connectors.core.errors import IncompatibleStoreError
from connectors.core.offset_tracker import Ledger
from connectors.core.records import Record
from connectors.delivery.read_quota import EpochBudget
from connectors.kafka.assignment import Position
from connectors.kafka.config import KafkaAccess
from connectors.kafka.consumer import Reader
from connectors.kafka.lag import Lag
from connectors.kafka.metadata_monitor import TopicWatch
from connectors.kafka.topic_validation import LookAhead, Probation
from connectors.observability.liveness import Heartbeat
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from connectors.runtime.tuning.epoch_schedule import EpochClock, SlotClock
from connectors.runtime.tuning.thread_state import keep_thread_state
from connectors.runtime.tuning.timer_slack import RESTS_AFTER_S, TimerSlack

SLOTS = 12
"""Reader slots; part of the recovery store's layout, so another number is another version."""

STATE_VERSION = 1
BATCH_RECORDS = 1024
BATCH_BYTES = 1024 * 1024
"""What one call returns at most, and so by how much a slot can overshoot the ledger's limits. Each
batch wakes all workers and costs every bucket a turn: of 256 records they took one percent more
of all CPU with one worker, four with four."""

QUIET_SHARE = 0.01
QUIET_S = 0.25
"""A slot that has read nothing for 5 s sleeps one percent of the silence, at most 250 ms. Being
woken at each turn of Bytewax, each millisecond, costs a worker 5 % of a core, most of it in
Bytewax, and each 50 ms costs four workers 1 %. So the first change after ten seconds' pause waits
50 ms longer, after half a minute's 125."""

LIVELY_S = 0.25
LIVELY_PAUSE_S = 0.0003
"""So often a slot looks while nothing is open and it has read something just now, instead of once
in Bytewax's millisecond: edits that come one after another arrive 0.3 ms sooner, at 5 % of a core
more (25 instead of 20). While pages are open, theirs is the time that counts."""

IDLE_S = 0.25
"""How long a slot without partitions sleeps; a stop waits for it."""

FULL_S = 0.01
"""How long a slot sleeps that may not read on: so long it takes to settle a few dozen
pages."""

LOOK_FIRST_S = 0.02
"""How long a slot sleeps until the topic's partitions are known."""

LOOK_S = 0.25
"""Seconds between two looks at what seldom changes: partitions, doubts, signs of life."""

SAY_EVERY_S = 1.0

SlotState = tuple[int, int, str, bool, dict[int, Position]]
"""Version, slots, topic id, whether the topic is proven, and positions by partition: 40 bytes a
partition, bounded by the topic's partitions."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all slots of a process share.

    Attributes:
        access: How Kafka is reached.
        watch: Knows the topic's partitions.
        ledger: Where records are opened, and which says when to stop reading.
        probation: Doubts the topic until one event could be decoded.
        heartbeat: Hears that the workers turn.
        metrics: Where lag and lost positions are counted.
        shutdown: Ends reading.
        assigned: The thread that reads a partition, by partition.
        epoch: When the epoch ends.
        slack: How exactly workers are woken.
        stored: The partitions whose position a recovery store has, if there is one.
        budget: Bounds what is read in an epoch of a cluster.
    """

    access: KafkaAccess
    watch: TopicWatch
    ledger: Ledger
    probation: Probation
    heartbeat: Heartbeat
    metrics: Metrics
    shutdown: Shutdown
    assigned: dict[int, int]
    epoch: EpochClock
    slack: TimerSlack
    stored: set[int] = field(default_factory=set)
    budget: EpochBudget = field(default_factory=EpochBudget)


class PagesSource(FixedPartitionedSource[Record, SlotState]):
    """Reads the records of the topic.

    Item type: `Record`. Unit of parallelism: the reader slot. Delivery: at least once, in order
    within each Kafka partition; from where the recovery store says, without it from the group's
    committed offset, else from the earliest. Deleted offsets are read over with an error and a
    count, never in silence.

    Args:
        reading: What all slots of the process share.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._lag = Lag(reading.ledger, reading.metrics)
        reading.watch.measure_for(self._lag)

    @override
    def list_parts(self) -> list[str]:
        return [f"slot-{number:02d}" for number in range(SLOTS)]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: SlotState | None) -> Slot:
        with self._reading.shutdown.guard("kafka source"):
            keep_thread_state()
            self._reading.slack.look()  # before it starts threads
            self._reading.watch.start()
            number = int(for_part.removeprefix("slot-"))
            return Slot(self._reading, self._lag, number, resume_state)


class Slot(StatefulSourcePartition[Record, SlotState]):
    """Reads the partitions p with p mod `SLOTS` = its number, through a consumer of its own.

    Args:
        reading: What all slots of the process share.
        lag: Where positions are noted.
        number: Which slot it is.
        state: What its last snapshot held, if it resumes.
    """

    def __init__(
        self, reading: Reading, lag: Lag, number: int, state: SlotState | None = None
    ) -> None:
        self._r = reading
        self._lag = lag
        self._number = number
        self._topic_id, proven, self._emitted = _restored(state)
        if proven:
            reading.probation.prove()
        reading.stored.update(self._emitted)
        self._snapshot_of: set[int] | None = None  # that may not be stored yet
        self._reader = Reader(
            reading.access,
            reading.watch.faults,
            reading.metrics,
            self._may_begin_anew,
            reading.watch.look_soon,
        )
        self._known = 0  # partitions of the topic when ours were chosen
        self._look_ahead = LookAhead(reading.probation)
        self._idle = True
        self._may_read = True
        self._read_at = time.monotonic()
        self._epoch = SlotClock(reading.epoch)
        self._look_at = 0.0
        self._say_at = 0.0

    @override
    def next_batch(self) -> Iterable[Record]:
        with self._r.shutdown.guard("kafka source"):
            self._epoch.asked()
            if self._r.shutdown.stopping.is_set():
                raise StopIteration
            if self._snapshot_of is not None:
                self._is_stored(self._snapshot_of)
            if self._is_time_to_look():
                self._look_at = time.monotonic() + LOOK_S
                self._look()
            elif self._reader.has_nothing():
                return ()
            return () if self._idle else self._emit(self._read())

    @override
    def next_awake(self) -> datetime | None:
        self._r.slack.look()
        open_pages = self._r.ledger.open_pages
        return self._epoch.next(self._pause_s(open_pages), open_pages)

    def _pause_s(self, open_pages: int) -> float | None:
        """How long the slot need not be asked; None for a turn of Bytewax's."""
        if self._idle:
            return IDLE_S if self._known else LOOK_FIRST_S
        silence_s = time.monotonic() - self._read_at
        if silence_s > RESTS_AFTER_S:
            return min(QUIET_SHARE * silence_s, QUIET_S)
        if not self._may_read:
            return FULL_S
        return LIVELY_PAUSE_S if silence_s < LIVELY_S and not open_pages else None

    @override
    def snapshot(self) -> SlotState:
        with self._r.shutdown.guard("kafka source"):
            self._epoch.begin()
            self._r.budget.epoch_ended(self._number)
            if self._r.ledger.shared:
                self._r.heartbeat.rest()
            self._snapshot_of = set(self._emitted)
            proven = self._r.probation.proven
            return (STATE_VERSION, SLOTS, self._topic_id, proven, dict(self._emitted))

    @override
    def close(self) -> None:
        with self._r.shutdown.guard("kafka source"):
            self._reader.close()

    def _is_stored(self, partitions: set[int]) -> None:
        """Note what is stored: Bytewax asks for records again when the epoch before is."""
        self._snapshot_of = None
        self._r.stored.difference_update(range(self._number, self._known, SLOTS))
        self._r.stored.update(partitions)

    def _is_time_to_look(self) -> bool:
        watch = self._r.watch
        has_changed = watch.topic_id not in ("", self._topic_id) or watch.partitions != self._known
        return self._idle or has_changed or time.monotonic() >= self._look_at

    def _look(self) -> None:
        self._r.heartbeat.beat()
        self._follow_topic()
        self._reader.ask_again()
        self._say_doubts()

    # --- which partitions

    def _follow_topic(self) -> None:
        watch = self._r.watch
        if watch.partitions != self._known:
            self._known = watch.partitions
            self._follow_partitions(range(self._number, self._known, SLOTS))
        if watch.topic_id != self._topic_id and watch.topic_id and self._known:
            self._follow_id(watch.topic_id)

    def _follow_partitions(self, mine: Iterable[int]) -> None:
        before = set(self._reader.partitions)
        self._reader.follow({number: self._emitted.get(number) for number in mine})
        now = set(self._reader.partitions)
        self._idle = not now
        for partition in before - now:
            self._r.assigned.pop(partition, None)
            self._lag.forget(partition)
        for partition in now - before:
            self._r.assigned[partition] = threading.get_ident()
            self._lag.follow(partition)
            if (resumed := self._emitted.get(partition)) is not None:
                # A ledger that is full of restored pages reads nothing, and yet the lag counts.
                self._lag.read_up_to(partition, resumed[0])

    def _follow_id(self, topic_id: str) -> None:
        """Begin anew when the topic is not the one whose offsets we have."""
        if self._topic_id:
            # Positions of the old topic must not be in a snapshot beside the new one's id.
            self._emitted = self._reader.begin_anew("the topic was deleted and made anew")
            self._look_ahead.forget()
            self._r.probation.begin_anew(topic_id)
        self._topic_id = topic_id

    def _may_begin_anew(self, partition: int, lost_at: float) -> bool:
        """Whether the old offsets are settled and the topic was looked at since.

        Until then an offset could mean two records, and one loss could be told twice: by the
        offset that is out of range, and by the topic's new id.
        """
        is_settled = not self._r.ledger.open_in(partition)
        return is_settled and self._r.watch.looked_at > lost_at

    # --- reading

    def _read(self) -> Sequence[Record]:
        granted = self._granted()
        self._may_read = granted > 0
        records = self._reader.read(granted, BATCH_BYTES) if granted else []
        return self._look_ahead.sift(records)

    def _granted(self) -> int:
        """How many records may be read now; 0 while the process has enough."""
        if not self._r.ledger.has_room():
            return 0
        if self._r.ledger.shared and self._r.budget.is_spent():
            return 0
        room = self._look_ahead.room
        return BATCH_RECORDS if room is None else min(room, BATCH_RECORDS)

    def _emit(self, records: Sequence[Record]) -> Sequence[Record]:
        if records:
            self._read_at = time.monotonic()
            self._r.slack.worked()
            self._r.ledger.opened(records)
            moved = {r.partition: (r.offset + 1, r.era) for r in records}
            self._r.budget.spend(self._number, len(records), sum(r.size_bytes for r in records))
            self._moved(moved)
        if self._reader.ends and not len(self._look_ahead):
            self._moved(self._reader.ends)
            self._reader.ends = {}
        return records

    def _moved(self, positions: dict[int, Position]) -> None:
        for partition, (offset, era) in positions.items():
            self._emitted[partition] = (offset, era)
            self._r.ledger.read_up_to(partition, offset)
            self._lag.read_up_to(partition, offset)

    def _say_doubts(self) -> None:
        now = time.monotonic()
        if now < self._say_at:
            return
        self._say_at = now + SAY_EVERY_S
        doubt = self._r.probation.doubt(self._r.access.topic)
        if doubt is None:
            self._r.watch.faults.over("events")
        else:
            self._r.watch.faults.trouble("events", *doubt)


def _restored(state: SlotState | None) -> tuple[str, bool, dict[int, Position]]:
    if state is None:
        return "", False, {}
    version, slots = state[:2]
    if (version, slots) != (STATE_VERSION, SLOTS):
        raise IncompatibleStoreError(
            f"layout {version} with {slots} reader slots", f"{STATE_VERSION} with {SLOTS}"
        )
    _, _, topic_id, proven, positions = state
    return topic_id, proven, dict(positions)
