"""Whether the topic holds page changes at all, before many events become dead letters.

With a wrong topic or converter every event is undecodable. That is a wrong setup: it must not turn
the whole topic into dead letters. So the source holds events back until one of them is decoded:

- Fewer than `LIMIT` undecodable events are emitted after `HOLD_S`.
- After `LIMIT` undecodable events, reading stops. They are not emitted, and positions do not move.
- Schema-registry frames alone are held back without a time limit: their first byte shows the setup.

An event that is decoded here is emitted in its decoded form, so that no event is decoded twice.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from connectors.core.records import DeadLetter, Record
from connectors.kafka.error_monitor import KafkaErrorMonitor

LIMIT = 100
"""Undecodable events after which the topic counts as invalid."""

HELD_BYTES = 4 * 1024 * 1024
"""Most bytes that one reader slot holds back."""

HOLD_S = 1.0
"""Seconds for which a few undecodable events wait for a good one."""


class DecodedEvent(Protocol):
    """An event in its decoded form."""

    @property
    def record(self) -> Record:
        """The event as the source read it."""


EventT = TypeVar("EventT", bound=DecodedEvent)


def record_in(item: Record | DecodedEvent) -> Record:
    """Return the record of an item that the source emits."""
    return item if isinstance(item, Record) else item.record


class TopicValidation(Generic[EventT]):
    """What one process knows about the topic; all methods may be called from any thread.

    Args:
        decode: Decodes an event; returns a `DeadLetter` for an undecodable one.
        limit: Undecodable events after which the topic counts as invalid.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        decode: Callable[[Record], EventT],
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decode = decode
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._emitted = 0
        self._held = 0
        self._held_since = 0.0
        self._is_valid = False
        self._only_frames = True
        self._topic_id = ""  # of the latest topic that was recreated

    @property
    def is_valid(self) -> bool:
        """Whether an event of the topic was decoded."""
        return self._is_valid

    def accept(self) -> None:
        """Accept the topic, because an earlier run decoded an event of it."""
        self._is_valid = True
        self._only_frames = False

    def restart(self, topic_id: str) -> None:
        """Validate a recreated topic, once: its converter may be another one."""
        with self._lock:
            if topic_id != self._topic_id:
                self._topic_id = topic_id
                self._is_valid = False
                self._only_frames = True
                self._emitted = 0

    def inspect(self, records: Iterable[Record]) -> list[Record | EventT]:
        """Decode events until one is good.

        Returns:
            The items in order, decoded as far as they were inspected. Tombstones and frames stay
            as they are: they show nothing about the topic.
        """
        items: list[Record | EventT] = []
        for record in records:
            if self._is_valid or record.value is None or is_frame(record):
                items.append(record)
                continue
            self._only_frames = False
            event = self._decode(record)
            items.append(event)
            if not isinstance(event, DeadLetter):
                self._is_valid = True
        return items

    def hold(self, count: int) -> None:
        """Count events with a value that are held back; a negative count releases them."""
        with self._lock:
            if not self._held:
                self._held_since = self._clock()
            self._held += count

    def may_release(self, count: int) -> bool:
        """Return whether this many of the held events may be emitted now."""
        with self._lock:
            if self._is_valid:
                return True
            are_few = self._emitted + self._held < self._limit
            has_waited = self._clock() - self._held_since >= HOLD_S
            if self._only_frames or not (are_few and has_waited):
                return False
            self._emitted += count
            return True

    def report(self, topic: str, errors: KafkaErrorMonitor) -> None:
        """Report why events are held back, or that they are not."""
        if problem := self.problem(topic):
            errors.report("events", *problem)
        else:
            errors.resolve("events")

    def problem(self, topic: str) -> tuple[str, str] | None:
        """Return why events are held back, as reason and remedy; None if nothing is wrong."""
        if self._is_valid:
            return None
        if self._held and self._only_frames:
            return (
                f"{topic} holds schema-registry frames (first byte 0) instead of JSON",
                "set the connector's value.converter to JsonConverter, or correct KAFKA_TOPIC",
            )
        if self._emitted + self._held >= self._limit:
            return (
                f"none of the first {self._limit} events of {topic} is a change of a page",
                "correct KAFKA_TOPIC or the connector's converter, then start again",
            )
        return None


def is_frame(record: Record) -> bool:
    """Return whether a value starts like a schema-registry frame (magic byte 0)."""
    return record.value is not None and record.value[:1] == b"\0"


class HeldEvents(Generic[EventT]):
    """The events that one reader slot has read and holds back, in order.

    Args:
        validation: What the process knows about the topic.
        limit: Most records held.
    """

    def __init__(self, validation: TopicValidation[EventT], limit: int = LIMIT) -> None:
        self._validation = validation
        self._limit = limit
        self._held: list[Record | EventT] = []
        self._bytes = 0

    @property
    def room(self) -> int:
        """How many records may be read before some are released."""
        if self._validation.is_valid:
            return sys.maxsize
        return 0 if self._bytes >= HELD_BYTES else max(0, self._limit - len(self._held))

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Remove all held events."""
        self._validation.hold(-_count_values(self._held))
        self._held, self._bytes = [], 0

    def sift(self, records: Sequence[Record]) -> Sequence[Record | EventT]:
        """Take the records that were read, and return the items to emit now, in order."""
        if self._validation.is_valid and not self._held:
            return records
        released = self._hold_back(self._validation.inspect(records))
        count = _count_values(self._held)
        if not count or not self._validation.may_release(count):
            return released
        released += self._held
        self.clear()
        return released

    def _hold_back(self, items: list[Record | EventT]) -> list[Record | EventT]:
        """Hold items back from the first one with a value on; return the tombstones before it."""
        first = 0
        if not self._held:
            values = (n for n, item in enumerate(items) if record_in(item).value is not None)
            first = next(values, len(items))
        held = items[first:]
        self._held += held
        self._bytes += sum(record_in(item).size_bytes for item in held)
        self._validation.hold(_count_values(held))
        return items[:first]


def _count_values(items: Iterable[Record | DecodedEvent]) -> int:
    return sum(record_in(item).value is not None for item in items)
