"""The partitions of one consumer: where each is read, and whether it is assigned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, OFFSET_STORED, Consumer, TopicPartition

Position = tuple[int, int]
"""Next offset and era of a partition; a plain tuple, because snapshots hold it."""

COMMITTED_TIMEOUT_S = 5.0
"""Seconds after which a committed offset is requested again."""


@dataclass(frozen=True, slots=True)
class LostPosition:
    """A position that the broker no longer has.

    Attributes:
        offset: The offset to read; -1 if unknown.
        at: When it was lost (monotonic seconds).
        reason: The error of the broker.
    """

    offset: int
    at: float
    reason: str


@dataclass(slots=True)
class Assignment:
    """Where one partition is read.

    Attributes:
        offset: The next offset; below 0 `OFFSET_STORED` (the committed one) or `OFFSET_BEGINNING`.
        era: How often the partition's offsets have started again.
        is_assigned: Whether the consumer fetches it.
        not_before: When it may be assigned (monotonic seconds).
        committed_by: When its committed offset must be known (monotonic seconds).
        lost: The position that was lost, until the next record shows where reading continues.
    """

    offset: int
    era: int
    is_assigned: bool = False
    not_before: float = 0.0
    committed_by: float = 0.0
    lost: LostPosition | None = None

    def lose(self, lost: LostPosition) -> None:
        """Start again at the earliest record, in a new era."""
        self.lost = lost
        self.offset = OFFSET_BEGINNING
        self.era += 1

    def take_loss(self) -> LostPosition | None:
        """Return the lost position, once."""
        lost, self.lost = self.lost, None
        return lost


class Assignments:
    """The partitions that one consumer reads.

    Args:
        topic: The topic.
        may_restart: Whether a partition whose position was lost, and when, may be read from the
            earliest record now.

    Attributes:
        has_waiting: Whether a partition waits to be assigned.
    """

    def __init__(self, topic: str, may_restart: Callable[[int, float], bool]) -> None:
        self._topic = topic
        self._may_restart = may_restart
        self._assignments: dict[int, Assignment] = {}
        self.has_waiting = False

    @property
    def partitions(self) -> set[int]:
        """The partitions that the consumer reads."""
        return set(self._assignments)

    @property
    def is_empty(self) -> bool:
        """Whether the consumer reads no partition."""
        return not self._assignments

    def items(self) -> list[tuple[int, Assignment]]:
        """Return the assignments with their partitions."""
        return list(self._assignments.items())

    def get(self, partition: int | None) -> Assignment | None:
        """Return a partition's assignment; None if this consumer does not read it."""
        return None if partition is None else self._assignments.get(partition)

    def add(self, partition: int, start: Position | None) -> None:
        """Read a partition, from the group's committed offset if there is no `start`."""
        offset, era = start or (OFFSET_STORED, 0)
        self._assignments[partition] = Assignment(offset, era)
        self.has_waiting = True

    def remove(self, partition: int) -> None:
        """Stop reading a partition."""
        del self._assignments[partition]

    def positions(self) -> dict[int, Position]:
        """Return where partitions are read, without those that start at the committed offset."""
        return {
            partition: (assignment.offset, assignment.era)
            for partition, assignment in self._assignments.items()
            if assignment.offset != OFFSET_STORED
        }

    def assign_waiting(self, consumer: Consumer) -> None:
        """Assign the partitions that may be assigned now.

        Raises:
            KafkaException: The consumer failed.
        """
        now = time.monotonic()
        waiting = [item for item in self.items() if not item[1].is_assigned]
        ready = [item for item in waiting if self._may_assign(*item, now)]
        if ready:
            consumer.incremental_assign(
                [TopicPartition(self._topic, p, assignment.offset) for p, assignment in ready]
            )
        for _, assignment in ready:
            assignment.is_assigned = True
            assignment.committed_by = now + COMMITTED_TIMEOUT_S
        self.has_waiting = len(ready) < len(waiting)

    def unassign(self, partition: int, consumer: Consumer | None) -> None:
        """Stop fetching a partition; it waits to be assigned again.

        Raises:
            KafkaException: The consumer failed.
        """
        assignment = self._assignments[partition]
        was_assigned, assignment.is_assigned = assignment.is_assigned, False
        self.has_waiting = True
        if was_assigned and consumer is not None:
            consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def unassign_all(self) -> None:
        """Mark all partitions as waiting, so that a new consumer gets them."""
        for assignment in self._assignments.values():
            assignment.is_assigned = False
        self.has_waiting = True

    def without_committed_offset(self) -> list[int]:
        """Return the partitions whose committed offset is not known in time."""
        now = time.monotonic()
        unknown = (
            item for item in self.items() if item[1].is_assigned and item[1].offset == OFFSET_STORED
        )
        return [partition for partition, assignment in unknown if now > assignment.committed_by]

    def _may_assign(self, partition: int, assignment: Assignment, now: float) -> bool:
        if now < assignment.not_before:
            return False
        return assignment.lost is None or self._may_restart(partition, assignment.lost.at)
