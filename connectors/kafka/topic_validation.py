"""Whether the topic holds page changes at all, before many events are called undecodable.

A wrong topic or converter makes every event undecodable. That is the set-up's fault, and must not
empty the topic into dead letters, neither now nor at the next start. So until one event could be
read, all are held back for a moment, and emitted then if they are few; a hundred of them stop the
reading, unemitted and with their positions unmoved. Schema-registry frames, which can be told by
their first byte, are held back for as long as nothing else comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from connectors.core.records import Record

LIMIT = 100
"""Events that may be undecodable before the topic is doubted."""

HELD_BYTES = 4 * 1024 * 1024
"""Bytes that one slot holds back, at most."""

HOLD_S = 1.0
"""How long a few unreadable events wait for a good one, or for more of their kind."""


class TopicValidation:
    """What one process has seen of the topic; all methods may be called from any thread.

    Args:
        is_change: Whether an event can be read.
        limit: Unreadable events at which the topic is doubted.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        is_change: Callable[[Record], bool],
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_change = is_change
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._emitted = 0
        self._held = 0
        self._held_since = 0.0
        self._is_valid = False
        self._saw_plain = False
        self._topic_id = ""  # of the latest topic that was made anew

    @property
    def is_valid(self) -> bool:
        """Whether an event of the topic could be read."""
        return self._is_valid

    def accept(self) -> None:
        """Take the topic as is_valid, as an earlier run has found."""
        self._is_valid = self._saw_plain = True

    def restart(self, topic_id: str) -> None:
        """Doubt a topic that was made anew, once: another converter may be what it was made for."""
        with self._lock:
            if topic_id != self._topic_id:
                self._topic_id = topic_id
                self._is_valid = self._saw_plain = False
                self._emitted = 0

    def inspect(self, records: Iterable[Record]) -> None:
        """Read events until one is good; a tombstone holds nothing, so it proves nothing."""
        for record in records:
            if record.value is None or is_frame(record):
                continue
            self._saw_plain = True
            if self._is_change(record):
                self._is_valid = True
                return

    def held(self, change: int) -> None:
        """Note that so many more events with a value (or, below 0, fewer) are held back."""
        with self._lock:
            if not self._held:
                self._held_since = self._clock()
            self._held += change

    def may_release(self, count: int) -> bool:
        """Ask whether so many of the events that are held may be emitted."""
        with self._lock:
            if self._is_valid:
                return True
            few = self._emitted + self._held < self._limit
            waited = self._clock() - self._held_since >= HOLD_S
            if not (self._saw_plain and few and waited):
                return False
            self._emitted += count
            return True

    def problem(self, topic: str) -> tuple[str, str] | None:
        """Why nothing is emitted, as reason and remedy; None while that is not so."""
        if self._is_valid:
            return None
        if self._held and not self._saw_plain:
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
    """Whether a value begins like a schema-registry frame (magic byte 0)."""
    return record.value is not None and record.value[:1] == b"\0"


class HeldEvents:
    """The events that one reader slot holds back, in order; they are read, but not emitted.

    Args:
        validation: The process's.
        limit: Records held at most.
    """

    def __init__(self, validation: TopicValidation, limit: int = LIMIT) -> None:
        self._probation = validation
        self._limit = limit
        self._held: list[Record] = []
        self._bytes = 0

    @property
    def room(self) -> int | None:
        """How many records may be read before some are let go; None: any number."""
        if self._probation.is_valid:
            return None
        return 0 if self._bytes >= HELD_BYTES else max(0, self._limit - len(self._held))

    def __len__(self) -> int:
        return len(self._held)

    def forget(self) -> None:
        """Hold nothing any more: it was let go, or its topic is gone."""
        self._probation.held(-_with_a_value(self._held))
        self._held, self._bytes = [], 0

    def sift(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take what was read, and return what may be emitted now, in order."""
        if self._probation.is_valid and not self._held:
            return records
        self._probation.inspect(records)
        passing = self._keep(records)
        values = _with_a_value(self._held)
        if not values or not self._probation.may_release(values):
            return passing
        released = [*passing, *self._held]
        self.forget()
        return released

    def _keep(self, records: Sequence[Record]) -> list[Record]:
        """Hold back all but tombstones that nothing is held before; returns those."""
        first = 0
        if not self._held:
            values = (n for n, record in enumerate(records) if record.value is not None)
            first = next(values, len(records))
        kept = records[first:]
        self._held += kept
        self._bytes += sum(record.size_bytes for record in kept)
        self._probation.held(_with_a_value(kept))
        return list(records[:first])


def _with_a_value(records: Iterable[Record]) -> int:
    return sum(record.value is not None for record in records)
