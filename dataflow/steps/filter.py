"""Step "filter": events that need no work end here."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.core.buckets import bucket_of
from connectors.core.offset_tracker import OffsetTracker
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from dataflow.events.decoder import Decoded
from dataflow.steps.changes import Change, Skipped


class Filter:
    """Groups changes by bucket, and settles and counts skipped events.

    It groups them because each item between two steps costs Bytewax more than a change costs here.

    Args:
        tracker: Where skipped events are settled.
        metrics: Where skipped events are counted.
        shutdown: Ends the process on an error.
    """

    def __init__(self, tracker: OffsetTracker, metrics: Metrics, shutdown: Shutdown) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._shutdown = shutdown

    def __call__(self, events: Iterable[Decoded]) -> list[tuple[str, list[Change]]]:
        """Return the changes among `events` by bucket, in order within each."""
        with self._shutdown.guard("filter"):
            groups: dict[str, list[Change]] = {}
            for event in events:
                if isinstance(event, Change):
                    groups.setdefault(bucket_of(event.page_id), []).append(event)
                elif isinstance(event, Skipped):  # the graph keeps dead letters away
                    self._metrics.events.labels(event.op, event.outcome).inc()
                    self._tracker.settle(event.record)
            self._tracker.hand_over(c.record for group in groups.values() for c in group)
            return list(groups.items())
