"""Step "decode": records become changes, skipped events or dead letters."""

from __future__ import annotations

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, Record
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from dataflow.events.decoder import Decoded, decode


class Decode:
    """Decodes records and counts the undecodable ones.

    The source decodes the first records itself, while it validates the topic; these pass.

    Args:
        tracker: Where records are open.
        metrics: Where undecodable events are counted.
        shutdown: Ends the process on an error.
    """

    def __init__(self, tracker: OffsetTracker, metrics: Metrics, shutdown: Shutdown) -> None:
        self._tracker = tracker
        self._shutdown = shutdown
        self._undecodable = metrics.events.labels("other", "refused")

    def __call__(self, items: list[Record | Decoded]) -> list[Decoded]:
        """Decode items, one result for each, in order."""
        with self._shutdown.guard("decode"):
            decoded = [decode(item) if isinstance(item, Record) else item for item in items]
            dead_letters = [item for item in decoded if isinstance(item, DeadLetter)]
            if dead_letters:
                self._undecodable.inc(len(dead_letters))
                self._tracker.hand_over(item.record for item in dead_letters)
            return decoded
