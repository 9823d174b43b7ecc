"""Step "filter": events that ask for nothing end here, counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from connectors.ledger import Ledger
from connectors.metrics import Metrics
from connectors.records import bucket_of
from dataflow.changes import Change, Skipped


class Filter:
    """Lets changes through, keyed by the bucket of their page, and settles what is skipped.

    Args:
        ledger: Where skipped records are settled.
        metrics: Where they are counted.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics

    def __call__(self, events: Iterable[Change | Skipped]) -> Iterator[tuple[str, Change]]:
        """Key the changes among `events`."""
        for event in events:
            if isinstance(event, Change):
                self._ledger.departed((event.record,))
                yield bucket_of(event.page_id), event
            else:
                self._metrics.events.labels(event.op, event.outcome).inc()
                self._ledger.settled(event.record)
