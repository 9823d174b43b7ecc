"""How far the outputs are behind the topic, partition by partition."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.ledger import Ledger
from connectors.metrics import Metrics


class Lag:
    """Keeps `gibsey_consumer_lag` of the partitions that this process reads.

    Args:
        ledger: Knows how many records that were read are still open.
        metrics: Where the gauge is.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._gauge = metrics.lag
        self._positions: dict[int, int] = {}  # written by the workers, read by the topic's watch

    def read_up_to(self, partition: int, next_offset: int) -> None:
        """Note the offset that is read next."""
        self._positions[partition] = next_offset

    def forget(self, partition: int) -> None:
        """Drop a partition that this process reads no more."""
        if self._positions.pop(partition, None) is not None:
            self._gauge.remove(str(partition))

    def partitions(self) -> list[int]:
        """The partitions whose position is known."""
        return list(self._positions)

    def measure(self, ends: Mapping[int, int]) -> None:
        """Set the gauges.

        Args:
            ends: The offset after the last record, by partition.
        """
        for partition, end in ends.items():
            position = self._positions.get(partition)
            if position is not None:
                unread = max(0, end - position)
                self._gauge.labels(str(partition)).set(unread + self._ledger.open_in(partition))
