"""The plain values that cross from step to step and from process to process.

None of them is changed once it is made. Not all are frozen, though: to make a frozen one of eight
fields takes 2.6 us instead of 0.5, and each page needs a handful.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

BUCKETS = 16
"""Buckets that pages are spread over; part of the recovery store's layout, so never changed
without raising `dataflow.steps.window.STATE_VERSION`. Nor are their keys."""

BUCKET_KEYS = (
    "00-35n",
    "01-yf",
    "02-2jl",
    "03-45f",
    "04-41s",
    "05-2wu",
    "06-14v",
    "07-8in",
    "08-fi",
    "09-1an",
    "10-2p0",
    "11-5x5",
    "12-2eu",
    "13-6wl",
    "14-1x5",
    "15-5m3",
)
"""Bytewax gives a bucket of a step to a worker by its key's hash, and a bucket of an output by its
place in the order of the keys. Of these the hash modulo 5040, which 1 to 10, 12, 14, 15 and 16
divide, is the place. So with so many workers both are the same worker, and all have as many buckets
as can be: a bucket's rows cross neither threads nor processes (`tests/dataflow/test_graph.py`)."""


def bucket_of(page_id: str) -> str:
    """The bucket of a page: the same in every process and after every restart."""
    return BUCKET_KEYS[zlib.crc32(page_id.encode()) % BUCKETS]


_ORIGIN = re.compile(r"(.+):([0-9]{1,9}):([0-9]{1,18})", re.DOTALL)


def parse_origin(text: str) -> tuple[str, int, int] | None:
    """Topic, partition and offset of a record that is named by its `origin`; None if it is none."""
    found = _ORIGIN.fullmatch(text)
    return (found[1], int(found[2]), int(found[3])) if found else None


@dataclass(slots=True)
class Record:
    """One record of the topic, as it was read.

    Attributes:
        topic: The topic it came from.
        partition: Its Kafka partition.
        offset: Its offset in that partition.
        timestamp_ms: The record's own time (milliseconds since 1970), 0 where it has none.
        key: Key bytes as they were, or None.
        value: Value bytes as they were, or None (a tombstone).
        era: How often this partition's offsets have begun anew (a recreated topic).
        replay_of: `topic:partition:offset` of the original where this is a replayed dead letter.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    era: int = 0
    replay_of: str | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value."""
        return len(self.value or b"") + len(self.key or b"")

    @property
    def origin(self) -> str:
        """`topic:partition:offset`, as dead letters and log lines name a record."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    def plain(self) -> tuple[Any, ...]:
        """What `Record(*…)` makes it of again, for snapshots.

        By hand: dataclasses' `astuple` takes 20 us, for each of thousands at an epoch's end, when
        all workers wait.
        """
        place = self.topic, self.partition, self.offset, self.timestamp_ms
        return *place, self.key, self.value, self.era, self.replay_of


@dataclass(slots=True)
class PageVector:
    """A page's new vector on its way to the outputs.

    Attributes:
        page_id: The page.
        vector: Its vector as JSON text, `[…]`, 768 finite numbers of unit length; None where
            the row is to be removed.
        record: The change it came from.
        written_us: The database write's own time (microseconds since 1970), if known.
        model: The model that made the vector.
        other_space: Whether that was the fallback, whose vectors do not compare.
    """

    page_id: str
    vector: bytes | None
    record: Record
    written_us: int | None = None
    model: str = ""
    other_space: bool = False


OTHER_SPACE = "other-space"
"""The reason of a page that is stored, with a vector of the fallback: nothing was given up."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that the stream gives up on, and why.

    Attributes:
        record: The original.
        reason: One of `connectors.observability.metrics.REASONS`.
        detail: One sentence for a person.
    """

    record: Record
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class FlushMarker:
    """Nothing follows in this bucket for now: its outputs say anew what they hold.

    An output's snapshot may hold rows on their way, and is taken only of buckets that something
    came for: after the last row of a rush something has to come, or a restart, however much later,
    would send those rows again.

    Attributes:
        settles: Whether outputs wait, before that snapshot, until they hold nothing. Otherwise
            another seal comes.
    """

    settles: bool = True


Outcome = PageVector | DeadLetter | FlushMarker
"""What comes out of the window step, of which each output takes its own."""
