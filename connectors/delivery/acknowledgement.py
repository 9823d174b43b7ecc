"""What happens when an output is through with a row: settled, measured, or dead-lettered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from connectors.core.errors import Rejection
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import OTHER_SPACE, DeadLetter, PageVector, Record
from connectors.observability.metrics import Metrics


class DeadLetterProducer(Protocol):
    """The dead-letter topic, as this module uses it."""

    async def deliver(self, letter: DeadLetter) -> None:
        """Send a letter; returns when the broker has confirmed it."""


class Acknowledgement:
    """Closes rows in the tracker once an output has them, or their dead letter is confirmed.

    Args:
        tracker: The open records.
        dead_letters: Where rows go that an output gave up.
        metrics: Where freshness is observed.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        tracker: OffsetTracker,
        dead_letters: DeadLetterProducer,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tracker = tracker
        self._dead_letters = dead_letters
        self._clock = clock
        self._since_kafka = metrics.freshness.labels("kafka")
        self._since_write = metrics.freshness.labels("write")

    async def row_done(self, row: PageVector, refusal: Rejection | None) -> None:
        """End a row of Stargate's write_queue.

        One of the fallback's is open until its dead letter `other-space` is confirmed, too.
        """
        if row.other_space:
            detail = f"embedded by the fallback, {row.model}"
            await self._dead_letters.deliver(DeadLetter(row.record, OTHER_SPACE, detail))
        await self.notice_done(row, refusal)

    async def notice_done(self, row: PageVector, refusal: Rejection | None) -> None:
        """End a row of RAG's write_queue."""
        if refusal is not None:
            letter = DeadLetter(row.record, refusal.reason, refusal.detail)
            await self._dead_letters.deliver(letter)
        if self._tracker.settled(row.record):
            self._observe(row.record, row.written_us)

    async def letter_done(self, letter: DeadLetter, _refusal: Rejection | None) -> None:
        """End a row of the dead letters' write_queue, which never gives one up."""
        self._tracker.settled(letter.record)

    def _observe(self, record: Record, written_us: int | None) -> None:
        if record.replay_of is not None:  # its times are those of long ago
            return
        now = self._clock()
        if record.timestamp_ms > 0:
            self._since_kafka.observe(max(now - record.timestamp_ms / 1000, 0.0))
        if written_us is not None:
            self._since_write.observe(max(now - written_us / 1e6, 0.0))


class DeadLetterWriter:
    """The dead-letter topic as a write queue sees it.

    Args:
        dead_letters: Its producer.
    """

    rows_per_request = 1
    concurrency = 64

    def __init__(self, dead_letters: DeadLetterProducer) -> None:
        self._dead_letters = dead_letters

    async def write(self, rows: Sequence[DeadLetter]) -> dict[int, Rejection]:
        """Deliver letters; returns when the broker has confirmed them."""
        for letter in rows:
            await self._dead_letters.deliver(letter)
        return {}
