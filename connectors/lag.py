"""How far the outputs are behind the topic, partition by partition."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.ledger import Ledger
from connectors.metrics import Metrics


class Lag:
    """Keeps `gibsey_consumer_lag` of the partitions that this process has a share of.

    In a cluster pages may be open here that another process has read: they count here, and there
    only what is unread, so that the sum over processes is the lag.

    Args:
        ledger: Knows how many records that were read are still open.
        metrics: Where the gauge is.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._gauge = metrics.lag
        self._positions: dict[int, int] = {}  # written by the workers, read by the topic's watch
        self._elsewhere: set[int] = set()

    def read_up_to(self, partition: int, next_offset: int) -> None:
        """Note the offset that is read next."""
        self._positions[partition] = next_offset

    def forget(self, partition: int) -> None:
        """Drop a partition that this process reads no more."""
        if self._positions.pop(partition, None) is not None:
            self._gauge.remove(str(partition))

    def partitions(self) -> list[int]:
        """The partitions whose position is known, and those that only have pages open here."""
        if self._ledger.shared:
            self._elsewhere |= self._ledger.open_partitions() - self._positions.keys()
        return [*self._positions, *(self._elsewhere - self._positions.keys())]

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
        for partition in self._elsewhere - self._positions.keys():
            self._gauge.labels(str(partition)).set(self._ledger.open_in(partition))
