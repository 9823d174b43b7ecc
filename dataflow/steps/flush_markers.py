"""When the outputs of a bucket are told that nothing follows for now."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from connectors.core.records import FlushMarker

AFTER_S = 1.0
"""How long after its last page, and how often then, it is looked whether all is settled."""

UNSETTLED_AT = (1, 2, 4, 8, 16, 32)
UNSETTLED_EVERY = 64
"""At which looks, and at each how many-th, a bucket is sealed although it is not: not at all of
them, for with a service away each time 25 MB of rows can be written anew."""


class FlushMarkers:
    """Whether a bucket owes its outputs a `FlushMarker`, and when it is looked again.

    Attributes:
        due_at: When to look; None while no seal is owed.
    """

    def __init__(self) -> None:
        self.due_at: datetime | None = None
        self._looks = 0

    def begin(self) -> None:
        """Note that the outputs may hold something: they were sent it, or their snapshots have."""
        self._looks = 0
        self.due_at = _soon()

    def look(self, *, is_settled: bool) -> FlushMarker | None:
        """The seal, if one is to be sent now.

        Args:
            is_settled: Whether all that this process has is, so that nothing need be waited for.
        """
        if self.due_at is None or self.due_at > datetime.now(timezone.utc):
            return None
        self._looks += 1
        self.due_at = None if is_settled else _soon()
        if is_settled or self._looks in UNSETTLED_AT or not self._looks % UNSETTLED_EVERY:
            return FlushMarker(settles=is_settled)
        return None


def _soon() -> datetime:
    return datetime.now(timezone.utc) + timedelta(seconds=AFTER_S)
