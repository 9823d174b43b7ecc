"""What happens when an output has accepted or rejected a row: settle, measure, dead-letter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from connectors.core.errors import Rejection
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import OTHER_SPACE, DeadLetter, PageVector, Record
from connectors.observability.metrics import Metrics


class DeadLetterTopic(Protocol):
    """Where dead letters are sent."""

    async def deliver(self, dead_letter: DeadLetter) -> None:
        """Send a dead letter; returns when the broker has confirmed it."""


class Acknowledgement:
    """Settles a row in the tracker when an output has it, or its dead letter is confirmed.

    Args:
        tracker: The open records.
        dead_letters: Where rejected rows are sent.
        metrics: Where freshness is measured.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        tracker: OffsetTracker,
        dead_letters: DeadLetterTopic,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tracker = tracker
        self._dead_letters = dead_letters
        self._clock = clock
        self._since_kafka = metrics.freshness.labels("kafka")
        self._since_write = metrics.freshness.labels("write")

    async def row_done(self, row: PageVector, rejection: Rejection | None) -> None:
        """Settle a row of the store; a vector of the fallback also becomes a dead letter."""
        if row.other_space:
            detail = f"embedded by the fallback, {row.model}"
            await self._dead_letters.deliver(DeadLetter(row.record, OTHER_SPACE, detail))
        await self._settle(row, rejection)

    async def notification_done(self, row: PageVector, rejection: Rejection | None) -> None:
        """Settle a notification of the RAG service."""
        await self._settle(row, rejection)

    async def _settle(self, row: PageVector, rejection: Rejection | None) -> None:
        if rejection is not None:
            dead_letter = DeadLetter(row.record, rejection.reason, rejection.detail)
            await self._dead_letters.deliver(dead_letter)
        if self._tracker.settle(row.record):
            self._measure_freshness(row.record, row.written_us)

    async def dead_letter_done(self, dead_letter: DeadLetter, _: Rejection | None) -> None:
        """Settle a confirmed dead letter; the dead-letter topic rejects none."""
        self._tracker.settle(dead_letter.record)

    def _measure_freshness(self, record: Record, written_us: int | None) -> None:
        if record.replay_of is not None:  # its timestamps are those of the original
            return
        now = self._clock()
        if record.timestamp_ms > 0:
            self._since_kafka.observe(max(now - record.timestamp_ms / 1000, 0.0))
        if written_us is not None:
            self._since_write.observe(max(now - written_us / 1e6, 0.0))


class DeadLetterWriter:
    """The dead-letter topic as a service that a write queue writes to.

    Args:
        dead_letters: Where dead letters are sent.
    """

    rows_per_request = 1
    concurrency = 64

    def __init__(self, dead_letters: DeadLetterTopic) -> None:
        self._dead_letters = dead_letters

    async def write(self, rows: Sequence[DeadLetter]) -> dict[int, Rejection]:
        """Send dead letters; returns when the broker has confirmed them."""
        for dead_letter in rows:
            await self._dead_letters.deliver(dead_letter)
        return {}
