"""What a dead letter looks like on its topic, and in the log."""

from __future__ import annotations

import datetime as dt
import enum
import time
from collections import Counter
from collections.abc import Callable

from connectors.core.records import OTHER_SPACE, DeadLetter, Record
from connectors.kafka.messages import TIMESTAMP_HEADER
from connectors.observability import logs

MAX_DETAIL_CHARS = 500
LINES_PER_PERIOD = 100
PERIOD_S = 10.0

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


class DeadLetterLog:
    """Logs dead letters one by one, and by number where there are many of a reason.

    Those of `OTHER_SPACE` are counted only, and no error: the fallback says itself when its work
    begins and ends.

    Args:
        clock: Monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._period_ends = float("-inf")
        self._said: Counter[str] = Counter()  # by reason, as the next one
        self._unsaid: Counter[str] = Counter()
        self._log = logs.get("stream")

    def say(self, letter: DeadLetter) -> bool:
        """Log a letter that was confirmed.

        Returns:
            Whether it is the first that was counted instead, so that `sum_up` is due in a period.
        """
        now = self._clock()
        if now >= self._period_ends:
            self._period_ends, self._said = now + PERIOD_S, Counter()
        self._said[letter.reason] += 1
        if letter.reason == OTHER_SPACE or self._said[letter.reason] > LINES_PER_PERIOD:
            self._unsaid[letter.reason] += 1
            return self._unsaid.total() == 1
        self._log.error(
            "dead letter",
            origin=letter.record.origin,
            reason=letter.reason,
            detail=one_line(letter.detail),
        )
        return False

    def sum_up(self) -> None:
        """Log how many letters were counted instead of being logged."""
        unsaid, self._unsaid = self._unsaid, Counter()
        if pages := unsaid.pop(OTHER_SPACE, 0):
            self._log.info("stored with vectors of the fallback", pages=pages, within_s=PERIOD_S)
        for reason, count in unsaid.items():
            self._log.error("more dead letters", count=count, reason=reason, within_s=PERIOD_S)
