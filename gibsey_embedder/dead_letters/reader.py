"""Reads dead letters from their topic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from connectors.core.records import Record, parse_origin
from connectors.kafka.messages import bytes_of, headers_of, timestamp_of
from dataflow.events.decoder import decode
from dataflow.steps.changes import Change
from gibsey_embedder.topic.reader import TopicReader


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        position: Partition and offset in the dead-letter topic.
        reason: The reason code.
        detail: The reason as text.
        failed_at: The time of the failure (ISO 8601).
        original: The original record, as far as the dead letter contains it. It is marked as a
            replay of itself, so that it keeps the original's version.
        original_size: Size in bytes of a value that was too large for the dead letter, or None.
    """

    position: tuple[int, int]
    reason: str
    detail: str
    failed_at: str
    original: Record
    original_size: int | None

    @property
    def change(self) -> Change | None:
        """The change in the original, or None if it cannot be decoded."""
        decoded = decode(self.original)
        return decoded if isinstance(decoded, Change) else None

    @property
    def page_id(self) -> str:
        """The page id, or an empty text if the original cannot be decoded."""
        change = self.change
        return change.page_id if change else ""


def read_dead_letters(
    reader: TopicReader, topic: str, starts: Mapping[int, int] | None = None
) -> Iterator[DeadLetter]:
    """Read all dead letters from `starts` (default: the beginning) to the current end."""
    ends = reader.ends(topic)
    begin = {n: (starts or {}).get(n, first) for n, (first, _) in ends.items()}
    for message in reader.read(topic, begin, ends):
        dead_letter = _parse(message)
        if dead_letter is not None:
            yield dead_letter


def _parse(message: Message) -> DeadLetter | None:
    headers = headers_of(message)
    origin = parse_origin(headers.get("origin", ""))
    if origin is None:
        return None  # another program wrote this record
    size = headers.get("original-size", "")
    original = Record(
        *origin,
        timestamp_of(headers),
        bytes_of(message.key()),
        bytes_of(message.value()),
        replay_of=headers["origin"],
    )
    return DeadLetter(
        (message.partition() or 0, message.offset() or 0),
        headers.get("reason", ""),
        headers.get("detail", ""),
        headers.get("failed-at", ""),
        original,
        int(size) if size.isdecimal() else None,
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects dead letters.

    Attributes:
        reason: Only dead letters with this reason.
        since: Only dead letters that failed at this time or later.
        page: Only dead letters of this page.
    """

    reason: str | None = None
    since: dt.datetime | None = None
    page: str | None = None

    def matches(self, dead_letter: DeadLetter) -> bool:
        """Whether the selection includes a dead letter."""
        if self.reason is not None and dead_letter.reason != self.reason:
            return False
        if self.page is not None and dead_letter.page_id != self.page:
            return False
        return self.since is None or self._failed_at(dead_letter) >= self.since

    @staticmethod
    def _failed_at(dead_letter: DeadLetter) -> dt.datetime:
        try:
            when = dt.datetime.fromisoformat(dead_letter.failed_at.replace("Z", "+00:00"))
        except ValueError:
            return dt.datetime.max.replace(tzinfo=dt.timezone.utc)
        return when if when.tzinfo else when.replace(tzinfo=dt.timezone.utc)


def parse_since(text: str) -> dt.datetime:
    """Parse a time in ISO 8601, or an age such as 30m, 12h or 7d.

    Raises:
        ValueError: The text is neither a time nor an age.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    now = dt.datetime.now(dt.timezone.utc)
    if text and text[-1] in units and text[:-1].isdecimal():
        return now - dt.timedelta(**{units[text[-1]]: int(text[:-1])})
    when = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo else when.astimezone()
