"""The values that cross from step to step and from process to process.

Nothing changes them after they are made. `Record` and `PageVector` are not frozen, because each
page needs several: a frozen dataclass of eight fields takes 2.6 us to make instead of 0.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_ORIGIN = re.compile(r"(.+):([0-9]{1,9}):([0-9]{1,18})", re.DOTALL)


def parse_origin(text: str) -> tuple[str, int, int] | None:
    """Return topic, partition and offset of an `origin`; None if the text is not one."""
    match = _ORIGIN.fullmatch(text)
    return (match[1], int(match[2]), int(match[3])) if match else None


@dataclass(slots=True)
class Record:
    """One record of the topic, as the source read it.

    Attributes:
        topic: Its topic.
        partition: Its Kafka partition.
        offset: Its offset in that partition.
        timestamp_ms: Its timestamp (milliseconds since 1970); 0 if it has none.
        key: The bytes of its key, or None.
        value: The bytes of its value; None for a tombstone.
        era: How often this partition's offsets have started again (a recreated topic).
        replay_of: `topic:partition:offset` of the original if this is a replayed dead letter.
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
        """Return the arguments of `Record(…)`, for snapshots.

        `dataclasses.astuple` takes 20 us, for thousands of records at the end of an epoch, while
        all workers wait.
        """
        position = self.topic, self.partition, self.offset, self.timestamp_ms
        return *position, self.key, self.value, self.era, self.replay_of


@dataclass(slots=True)
class PageVector:
    """A page's new vector, for the outputs.

    Attributes:
        page_id: The page.
        vector: The vector as JSON text: `[…]`, 768 finite numbers of unit length. None removes the
            page's row.
        record: The record of the change.
        written_us: The time of the database write (microseconds since 1970); None if unknown.
        model: The model that made the vector.
        other_space: Whether the fallback made it; vectors of two models cannot be compared.
    """

    page_id: str
    vector: bytes | None
    record: Record
    written_us: int | None = None
    model: str = ""
    other_space: bool = False


OTHER_SPACE = "other-space"
"""The reason of a dead letter whose page is stored, with a vector of the fallback."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that the stream cannot process, with the reason.

    Attributes:
        record: The original record.
        reason: One of the `reasons` of a `connectors.core.services.Service`.
        detail: One sentence for a person.
    """

    record: Record
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class FlushMarker:
    """Informs the outputs of a bucket that no row follows for now.

    Bytewax takes an output's snapshot only in epochs in which the output received something. After
    the last rows of a burst the outputs receive this marker, so that their snapshots no longer hold
    those rows: a restart would send them again.

    Attributes:
        settles: Whether outputs wait with the snapshot until all their rows are acknowledged. If
            not, another marker follows.
    """

    settles: bool = True


Outcome = PageVector | DeadLetter | FlushMarker
"""What the window step emits; each output takes its own rows."""
