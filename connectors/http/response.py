"""A complete response to an HTTP request."""

from __future__ import annotations

import datetime as dt
import email.utils
from collections.abc import Mapping
from dataclasses import dataclass

MAX_RETRY_AFTER_S = 300.0


@dataclass(slots=True)
class Response:
    """A complete response.

    Attributes:
        status: HTTP status.
        headers: Header fields. A lookup ignores case. Several responses may share the mapping.
        body: The complete body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """Seconds from Retry-After or retry-after-ms, at most 300; None if both are absent."""
        if (ms := self.headers.get("retry-after-ms")) and ms.isdecimal():
            return min(float(ms) / 1000, MAX_RETRY_AFTER_S)
        return _retry_after_s(self.headers.get("retry-after", ""))

    def text(self, limit: int = 300) -> str:
        """Return the first characters of the body on one line, for messages."""
        return " ".join(self.body[: 4 * limit].decode(errors="replace").split())[:limit]


def _retry_after_s(value: str) -> float | None:
    """Return seconds from a number or an HTTP date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=dt.timezone.utc)
        seconds = (when - dt.datetime.now(dt.timezone.utc)).total_seconds()
    if not seconds >= 0:  # also NaN
        return None
    return min(seconds, MAX_RETRY_AFTER_S)
