"""The items between the steps: a change of a page, or an event that needs no work.

Some of them are not frozen, for the reason in `connectors.core.records`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

from connectors.core.records import Record

Op = Literal["c", "u", "d", "other"]

ANY_ERA = -1
"""The era of a replayed dead letter: its topic may have been created again since."""


@dataclass(slots=True)
class Version:
    """When a change was made, as far as its event shows.

    Attributes:
        written_us: The time of the database write (microseconds since 1970, 0 or more); None in
            flat events.
        timestamp_ms: The time of the record (milliseconds since 1970), 0 if it has none.
        partition: The Kafka partition of the event.
        era: How often the offsets of that partition have begun again; `ANY_ERA` if unknown.
        offset: The offset of the event.
    """

    written_us: int | None
    timestamp_ms: int
    partition: int
    era: int
    offset: int

    def compare(self, other: Version) -> int:
        """Return which version is newer: below 0 the other one, 0 neither, above 0 this one.

        - If both have the time of a database write, these times decide: repeats of an event have
          the same time.
        - Flat events of one partition are in the order of their offsets. A replayed dead letter is
          newer only if its offset and its time are, because its topic may no longer exist.
        - Otherwise the best times known decide. At equal times the partition and the offset
          decide, so that the same change wins whichever is finished first. If a time is missing,
          the change that arrives later is newer.
        """
        ours, theirs = self.written_us, other.written_us
        if ours is not None and theirs is not None:
            return _sign((ours,), (theirs,))
        if ours is None and theirs is None and self.partition == other.partition:
            return self._compare_in_partition(other)
        if self.time_us is None or other.time_us is None:
            return 1
        return _sign((self.time_us, *self._position), (other.time_us, *other._position))

    def _compare_in_partition(self, other: Version) -> int:
        if self.era == ANY_ERA != other.era:
            return self._compare_as_replay(other)
        if other.era == ANY_ERA != self.era:
            return -other._compare_as_replay(self)
        return _sign((self.era, self.offset), (other.era, other.offset))

    def _compare_as_replay(self, other: Version) -> int:
        by_offset = _sign((self.offset,), (other.offset,))
        if not (self.timestamp_ms and other.timestamp_ms):
            return by_offset
        by_time = _sign((self.timestamp_ms,), (other.timestamp_ms,))
        return -1 if min(by_offset, by_time) < 0 else max(by_offset, by_time)

    @property
    def _position(self) -> tuple[int, int, int]:
        return self.partition, self.era, self.offset

    @property
    def time_us(self) -> int | None:
        """The best time known (microseconds since 1970). The time of a write may be 0."""
        if self.written_us is not None:
            return self.written_us
        return self.timestamp_ms * 1000 or None

    def plain(self) -> tuple[int | None, int, int, int, int]:
        """Return the fields as a tuple; `Version(*fields)` is the reverse."""
        return self.written_us, self.timestamp_ms, self.partition, self.era, self.offset

    def pack(self) -> bytes:
        """Return the version as `PACKED_BYTES` bytes."""
        written = -1 if self.written_us is None else self.written_us
        return _PACKED.pack(written, self.timestamp_ms, self.partition, self.era, self.offset)

    @classmethod
    def unpack(cls, packed: bytes) -> Version:
        """Return the version that `pack` returned as bytes."""
        written, *rest = _PACKED.unpack(packed)
        return cls(None if written == -1 else written, *rest)


_PACKED = struct.Struct("<qqiiq")
PACKED_BYTES = _PACKED.size


def _sign(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return (a > b) - (a < b)


@dataclass(slots=True)
class Change:
    """A page that has a new text, or was deleted.

    Attributes:
        record: The event as it was read.
        page_id: The page.
        op: `c`, `u` or `d`.
        body: The new text; None for a delete, empty or blank if the page has no text.
        version: When the change was made.
    """

    record: Record
    page_id: str
    op: Op
    body: str | None
    version: Version

    @property
    def is_blank(self) -> bool:
        """Whether there is no text to embed."""
        return not self.body or self.body.isspace()

    @property
    def is_replay(self) -> bool:
        """Whether the change is a replayed dead letter."""
        return self.record.replay_of is not None

    def plain(self) -> tuple[Any, ...]:
        """Return the change as plain values, which later versions of the program can read."""
        record, version = self.record.plain(), self.version.plain()
        return record, self.page_id, self.op, self.body, version

    @classmethod
    def from_plain(cls, fields: tuple[Any, ...]) -> Change:
        """Return the change that `plain` returned as plain values."""
        record, page_id, op, body, version = fields
        return cls(Record(*record), page_id, op, body, Version(*version))


@dataclass(frozen=True, slots=True)
class Skipped:
    """An event that needs no work.

    Attributes:
        record: The event as it was read.
        op: Its operation, for the metrics.
        outcome: Why it is skipped: one of the outcomes of the metric.
    """

    record: Record
    op: Op
    outcome: str
