"""The schedule of the flush markers that follow the last page of a bucket."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from connectors.core.records import FlushMarker

FLUSH_AFTER_S = 1.0
"""The delay of the first check after the last page, and the interval between checks."""

UNSETTLED_CHECKS = (1, 2, 4, 8, 16, 32)
UNSETTLED_EVERY = 64
"""The checks that send a marker although pages are unsettled. Not every check does: while a
service is unavailable, each marker can make the outputs write 25 MB of rows to their snapshots."""


class FlushMarkers:
    """Decides when a bucket sends its outputs a `FlushMarker`.

    Args:
        after_s: Seconds between the last page and the first check, and between two checks.

    Attributes:
        due_at: The time of the next check; None if no marker is due.
    """

    def __init__(self, after_s: float = FLUSH_AFTER_S) -> None:
        self.due_at: datetime | None = None
        self._after_s = after_s
        self._checks = 0

    def begin(self) -> None:
        """Note that the outputs may hold rows: they received some, or resumed with some."""
        self._checks = 0
        self.due_at = self._next_check()

    def check(self, *, is_settled: bool) -> FlushMarker | None:
        """Return the marker, if one is to be sent now.

        Args:
            is_settled: Whether all records of this process are settled.
        """
        if self.due_at is None or self.due_at > datetime.now(timezone.utc):
            return None
        self._checks += 1
        self.due_at = None if is_settled else self._next_check()
        if is_settled or self._checks in UNSETTLED_CHECKS or not self._checks % UNSETTLED_EVERY:
            return FlushMarker(settles=is_settled)
        return None

    def _next_check(self) -> datetime:
        return datetime.now(timezone.utc) + timedelta(seconds=self._after_s)
