"""What a dead letter looks like on its topic, and in the log."""

from __future__ import annotations

import datetime as dt
import enum

from connectors.core.records import DeadLetter, Record
from connectors.kafka.messages import TIMESTAMP_HEADER
from connectors.observability import logs

MAX_DETAIL_CHARS = 500

Headers = list[tuple[str, str | bytes | None]]


class Payload(enum.Enum):
    """How much of the original a letter carries: less when the topic refuses it for its size.

    `ALONE` is whole, but not in a batch with others, of which one may have been too large.
    """

    WHOLE = "whole"
    ALONE = "alone"
    NO_VALUE = "without its value"
    BARE = "without key and value"

    def smaller(self) -> Payload:
        """The form to try next."""
        forms = list(Payload)
        return forms[forms.index(self) + 1]

    def key_of(self, record: Record) -> bytes | None:
        """The key in this form."""
        return None if self is Payload.BARE else record.key

    def value_of(self, record: Record) -> bytes | None:
        """The value in this form."""
        return record.value if self in (Payload.WHOLE, Payload.ALONE) else None


def headers_of(letter: DeadLetter, failed_at: dt.datetime, form: Payload) -> Headers:
    """The headers of a letter.

    Args:
        letter: The letter.
        failed_at: When it was given up (UTC).
        form: What it carries.
    """
    record = letter.record
    headers: Headers = [
        ("reason", letter.reason.encode()),
        ("detail", one_line(logs.redact(letter.detail)).encode(errors="replace")),
        ("origin", (record.replay_of or record.origin).encode()),
        ("failed-at", failed_at.isoformat(timespec="milliseconds").encode()),
        (TIMESTAMP_HEADER, str(record.timestamp_ms).encode()),
    ]
    if form in (Payload.NO_VALUE, Payload.BARE):
        headers.append(("original-size", str(len(record.value or b"")).encode()))
    return headers


def one_line(text: str) -> str:
    """Text without line breaks and other control characters, at most `MAX_DETAIL_CHARS`."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_DETAIL_CHARS]
