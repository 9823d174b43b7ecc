"""Whether the topic holds page changes at all, before many events are called undecodable.

A wrong topic or converter makes every event undecodable. That is the set-up's fault, and must not
empty the topic into dead letters: until one event could be decoded, only a hundred are let
through, and schema-registry frames, which can be told by their first byte, none.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from connectors.records import Record

LIMIT = 100
"""Events that may be undecodable before the topic is doubted."""

HELD_BYTES = 4 * 1024 * 1024
"""Bytes of frames that one slot holds back, at most."""


class Probation:
    """What one process has seen of the topic; all methods may be called from any thread.

    Args:
        limit: Events let through before one could be decoded.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._admitted = 0
        self._bad = 0
        self._held = 0
        self._proven = False
        self._saw_plain = False

    @property
    def proven(self) -> bool:
        """Whether an event of the topic could be decoded."""
        return self._proven

    @property
    def frames_pass(self) -> bool:
        """Whether the topic holds other things than schema-registry frames too."""
        return self._saw_plain

    def admit(self, wanted: int) -> int:
        """Ask to let `wanted` events through; returns how many may be."""
        if self._proven:
            return wanted
        with self._lock:
            granted = max(0, min(wanted, self._limit - self._admitted))
            self._admitted += granted
            return granted

    def give_back(self, unused: int) -> None:
        """Return what `admit` granted and no event with a value used."""
        if not self._proven:
            with self._lock:
                self._admitted -= unused

    def decoded(self, *, good: int, bad: int) -> None:
        """Hear from decode how many events with a value were changes, and how many undecodable."""
        if self._proven:
            return
        with self._lock:
            self._bad += bad
            if good:
                self._proven = self._saw_plain = True

    def prove(self) -> None:
        """Take the topic as proven, as an earlier run has found."""
        self.decoded(good=1, bad=0)

    def saw_plain(self) -> None:
        """Note an event that is no schema-registry frame: frames are ordinary bad events then."""
        self._saw_plain = True

    def held(self, change: int) -> None:
        """Note that so many more frames (or, below 0, fewer) are held back."""
        with self._lock:
            self._held += change

    def doubt(self, topic: str) -> tuple[str, str] | None:
        """Why reading has stopped, as reason and remedy; None while it has not."""
        if self._proven:
            return None
        if self._held and not self._saw_plain:
            return (
                f"{topic} holds schema-registry frames (first byte 0) instead of JSON",
                "set the connector's value.converter to JsonConverter, or correct KAFKA_TOPIC",
            )
        if self._bad >= self._limit:
            return (
                f"none of the first {self._limit} events of {topic} is a change of a page",
                "correct KAFKA_TOPIC or the connector's converter, then start again",
            )
        return None


def is_frame(record: Record) -> bool:
    """Whether a value begins like a schema-registry frame (magic byte 0)."""
    return record.value is not None and record.value[:1] == b"\0"


class LookAhead:
    """The frames that one reader slot holds back, in order; they are read, but not emitted.

    Args:
        probation: The process's.
        limit: Records held at most.
    """

    def __init__(self, probation: Probation, limit: int = LIMIT) -> None:
        self._probation = probation
        self._limit = limit
        self._held: list[Record] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no more may be read until the frames are released."""
        return len(self._held) >= self._limit or self._bytes >= HELD_BYTES

    def __len__(self) -> int:
        return len(self._held)

    def sift(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take what was read, and return what may be emitted now, in order."""
        if self._probation.frames_pass and not self._held:
            return records
        if any(record.value is not None and not is_frame(record) for record in records):
            self._probation.saw_plain()
        if self._probation.frames_pass:
            return self._release(records)
        return self._hold(records)

    def _release(self, records: Sequence[Record]) -> Sequence[Record]:
        self._probation.held(-len(self._held))
        released, self._held, self._bytes = [*self._held, *records], [], 0
        return released

    def _hold(self, records: Sequence[Record]) -> Sequence[Record]:
        """Hold frames, and tombstones behind them: these prove nothing."""
        passing = []
        for record in records:
            if self._held or is_frame(record):
                self._held.append(record)
                self._bytes += record.size_bytes
                self._probation.held(1)
            else:
                passing.append(record)
        return passing
