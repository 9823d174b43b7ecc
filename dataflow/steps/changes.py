"""What flows from step to step: a change of a page, or why there is nothing to do.

Not all of it is frozen, as in `connectors.core.records`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from connectors.core.records import Record

Op = Literal["c", "u", "d", "other"]

ANY_ERA = -1
"""The era of a replayed letter: its origin may be of a topic that was made anew since."""


@dataclass(slots=True)
class Version:
    """When a change was made, as far as its event tells.

    Attributes:
        written_us: The database write's own time (microseconds since 1970, 0 or more), None in
            flat events.
        timestamp_ms: The record's time (milliseconds since 1970), 0 where it has none.
        partition: Kafka partition of the event.
        era: How often that partition's offsets have begun anew; `ANY_ERA` where nobody knows.
        offset: Its offset.
    """

    written_us: int | None
    timestamp_ms: int
    partition: int
    era: int
    offset: int

    def compare(self, other: Version) -> int:
        """Below 0 if this is the older of the two, 0 for the same write, above 0 if newer.

        Database times decide where both events have one (repeats of an event carry the same).
        Flat events of one partition are in the order of their offsets; else only the records'
        times are left. Of two at the same time either might be newer: partition and offset
        decide, so that the same one wins whichever comes, or is done, first. Where a time is
        missing, the later arrival counts as newer. A replayed letter must be newer by its
        offset and by its time: one of them alone may be that of a topic that is gone.
        """
        ours, theirs = self.written_us, other.written_us
        if ours is not None and theirs is not None:
            return _sign((ours,), (theirs,))
        if ours is None and theirs is None and self.partition == other.partition:
            if self.era == ANY_ERA != other.era:
                return self._compare_as_replay(other)
            if other.era == ANY_ERA != self.era:
                return -other._compare_as_replay(self)
            return _sign((self.era, self.offset), (other.era, other.offset))
        if self.time_us is None or other.time_us is None:
            return 1
        return _sign((self.time_us, *self._place), (other.time_us, *other._place))

    def _compare_as_replay(self, other: Version) -> int:
        by_offset = _sign((self.offset,), (other.offset,))
        if not (self.timestamp_ms and other.timestamp_ms):
            return by_offset
        by_time = _sign((self.timestamp_ms,), (other.timestamp_ms,))
        return -1 if min(by_offset, by_time) < 0 else max(by_offset, by_time)

    @property
    def _place(self) -> tuple[int, int, int]:
        return self.partition, self.era, self.offset

    @property
    def time_us(self) -> int | None:
        """The best time known (microseconds since 1970); the database's own may well be 0."""
        if self.written_us is not None:
            return self.written_us
        return self.timestamp_ms * 1000 or None

    def plain(self) -> tuple[int | None, int, int, int, int]:
        """What `Version(*…)` makes it of again."""
        return self.written_us, self.timestamp_ms, self.partition, self.era, self.offset

    def pack(self) -> bytes:
        """As `PACKED_BYTES` bytes."""
        written = -1 if self.written_us is None else self.written_us
        return _PACKED.pack(written, self.timestamp_ms, self.partition, self.era, self.offset)

    @classmethod
    def unpack(cls, packed: bytes) -> Version:
        """The reverse of `pack`."""
        written, *rest = _PACKED.unpack(packed)
        return cls(None if written == -1 else written, *rest)


_PACKED = struct.Struct("<qqiiq")
PACKED_BYTES = _PACKED.size


def _sign(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return (a > b) - (a < b)


@dataclass(slots=True)
class Change:
    """A page got a new body, or went.

    Attributes:
        record: The event as it was read.
        page_id: The page.
        op: `c`, `u` or `d`.
        body: The page's new text; None for a delete, empty or blank where there is no text.
        version: When it was made.
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
        """Whether a dead letter is given another chance."""
        return self.record.replay_of is not None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An event that asks for nothing.

    Attributes:
        record: The event as it was read.
        op: Its operation, for the metrics.
        outcome: Why it is skipped, one of the metric's outcomes.
    """

    record: Record
    op: Op
    outcome: str
