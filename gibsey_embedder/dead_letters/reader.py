"""Dead letters as they are read back from their topic."""

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
class Letter:
    """One dead letter.

    Attributes:
        place: Partition and offset in the dead-letter topic.
        reason: Why it is one.
        detail: The same for a person.
        failed_at: When (ISO 8601).
        original: The record it was, as far as the letter holds it, marked as its own replay, so
            that its version is the original's.
        original_size: Bytes of a value that was too large for the letter, else None.
    """

    place: tuple[int, int]
    reason: str
    detail: str
    failed_at: str
    original: Record
    original_size: int | None

    @property
    def change(self) -> Change | None:
        """The change it asks for, or None where it cannot be decoded."""
        decoded = decode(self.original)
        return decoded if isinstance(decoded, Change) else None

    @property
    def page_id(self) -> str:
        """The page, or an empty text."""
        change = self.change
        return change.page_id if change else ""


def read_letters(
    reader: TopicReader, topic: str, starts: Mapping[int, int] | None = None
) -> Iterator[Letter]:
    """All letters of the topic from `starts` (else from its beginning) to where it ends now."""
    ends = reader.ends(topic)
    begin = {n: (starts or {}).get(n, first) for n, (first, _) in ends.items()}
    for message in reader.read(topic, begin, ends):
        letter = _letter(message)
        if letter is not None:
            yield letter


def _letter(message: Message) -> Letter | None:
    headers = headers_of(message)
    origin = parse_origin(headers.get("origin", ""))
    if origin is None:
        return None  # not written by this program
    size = headers.get("original-size", "")
    original = Record(
        *origin,
        timestamp_of(headers),
        bytes_of(message.key()),
        bytes_of(message.value()),
        replay_of=headers["origin"],
    )
    return Letter(
        (message.partition() or 0, message.offset() or 0),
        headers.get("reason", ""),
        headers.get("detail", ""),
        headers.get("failed-at", ""),
        original,
        int(size) if size.isdecimal() else None,
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant.

    Attributes:
        reason: Only those with this reason.
        since: Only those that failed at this time or later.
        page: Only those of this page.
    """

    reason: str | None = None
    since: dt.datetime | None = None
    page: str | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        if self.reason is not None and letter.reason != self.reason:
            return False
        if self.page is not None and letter.page_id != self.page:
            return False
        return self.since is None or self._failed_at(letter) >= self.since

    @staticmethod
    def _failed_at(letter: Letter) -> dt.datetime:
        try:
            when = dt.datetime.fromisoformat(letter.failed_at.replace("Z", "+00:00"))
        except ValueError:
            return dt.datetime.max.replace(tzinfo=dt.timezone.utc)
        return when if when.tzinfo else when.replace(tzinfo=dt.timezone.utc)


def shown(text: str, longest: int = 60) -> str:
    """A text from outside on one printable line."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def parse_since(text: str) -> dt.datetime:
    """A time as people write it: ISO 8601, or an age such as 30m, 12h, 7d.

    Raises:
        ValueError: It is neither.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    now = dt.datetime.now(dt.timezone.utc)
    if text and text[-1] in units and text[:-1].isdecimal():
        return now - dt.timedelta(**{units[text[-1]]: int(text[:-1])})
    when = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo else when.astimezone()
