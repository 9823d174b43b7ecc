"""A dead letter as a message of Kafka: headers, key and value."""

from __future__ import annotations

import datetime as dt
import enum

from connectors.core.records import DeadLetter, Record
from connectors.kafka.messages import TIMESTAMP_HEADER
from connectors.observability import logs

MAX_DETAIL_CHARS = 500

Headers = list[tuple[str, str | bytes | None]]


class Payload(enum.Enum):
    """How much of the original a dead letter contains; less if it is too large for the topic.

    `ALONE` carries all of it, but in a batch of its own: another message may have been too large.
    """

    WHOLE = "whole"
    ALONE = "alone"
    NO_VALUE = "without its value"
    BARE = "without key and value"

    def smaller(self) -> Payload:
        """Return the next smaller payload."""
        payloads = list(Payload)
        return payloads[payloads.index(self) + 1]

    def key_of(self, record: Record) -> bytes | None:
        """Return the key that the dead letter carries."""
        return None if self is Payload.BARE else record.key

    def value_of(self, record: Record) -> bytes | None:
        """Return the value that the dead letter carries."""
        return record.value if self in (Payload.WHOLE, Payload.ALONE) else None


def headers_of(dead_letter: DeadLetter, failed_at: dt.datetime, payload: Payload) -> Headers:
    """Return the headers of a dead letter.

    Args:
        dead_letter: The dead letter.
        failed_at: When its record was given up (UTC).
        payload: What it carries.
    """
    record = dead_letter.record
    headers: Headers = [
        ("reason", dead_letter.reason.encode()),
        ("detail", one_line(logs.redact(dead_letter.detail)).encode(errors="replace")),
        ("origin", (record.replay_of or record.origin).encode()),
        ("failed-at", failed_at.isoformat(timespec="milliseconds").encode()),
        (TIMESTAMP_HEADER, str(record.timestamp_ms).encode()),
    ]
    if payload in (Payload.NO_VALUE, Payload.BARE):
        headers.append(("original-size", str(len(record.value or b"")).encode()))
    return headers


def one_line(text: str) -> str:
    """Return text without control characters, at most `MAX_DETAIL_CHARS` long."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_DETAIL_CHARS]
