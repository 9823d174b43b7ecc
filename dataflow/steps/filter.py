"""Step "filter": events that ask for nothing end here, counted."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import bucket_of
from connectors.observability.metrics import Metrics
from dataflow.steps.changes import Change, Skipped


class Filter:
    """Lets changes through, in groups of one bucket, and settles what is skipped.

    In groups, for each item costs Bytewax more than a page's change does us.

    Args:
        tracker: Where skipped records are settled.
        metrics: Where they are counted.
    """

    def __init__(self, tracker: OffsetTracker, metrics: Metrics) -> None:
        self._tracker = tracker
        self._metrics = metrics

    def __call__(self, events: Iterable[Change | Skipped]) -> list[tuple[str, list[Change]]]:
        """The changes among `events`, by bucket."""
        groups: dict[str, list[Change]] = {}
        for event in events:
            if isinstance(event, Change):
                groups.setdefault(bucket_of(event.page_id), []).append(event)
            else:
                self._metrics.events.labels(event.op, event.outcome).inc()
                self._tracker.settled(event.record)
        self._tracker.handed_over(change.record for group in groups.values() for change in group)
        return list(groups.items())
