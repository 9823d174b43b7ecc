"""How far the outputs are behind the topic, partition by partition."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from connectors.core.offset_tracker import OffsetTracker
from connectors.observability.metrics import Metrics


class Lag:
    """Keeps `gibsey_consumer_lag` of the partitions that this process has a share of.

    In a cluster pages may be open here that another process has read: they count here, and there
    only what is unread, so that the sum over processes is the lag.

    Args:
        tracker: Knows how many records that were read are still open.
        metrics: Where the gauge is.
    """

    def __init__(self, tracker: OffsetTracker, metrics: Metrics) -> None:
        self._tracker = tracker
        self._gauge = metrics.lag
        # Written by the workers, read by the topic's monitor.
        self._followed: set[int] = set()
        self._positions: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._elsewhere: set[int] = set()

    def follow(self, partition: int) -> None:
        """Note a partition that this process reads, from wherever its group is."""
        self._followed.add(partition)

    def read_up_to(self, partition: int, next_offset: int) -> None:
        """Note the offset that is read next."""
        self._positions[partition] = next_offset
        self._followed.add(partition)

    def forget(self, partition: int) -> None:
        """Drop a partition that this process reads no more."""
        self._followed.discard(partition)
        self._positions.pop(partition, None)
        self._starts.pop(partition, None)
        with contextlib.suppress(KeyError):
            self._gauge.remove(str(partition))

    def partitions(self) -> list[int]:
        """The partitions that this process reads, and those that only have pages open here."""
        if self._tracker.shared:
            self._elsewhere |= self._tracker.open_partitions() - self._followed
        return [*self._followed, *(self._elsewhere - self._followed)]

    def unplaced(self) -> list[int]:
        """Those of which nobody knows yet where reading begins, for example since it is stopped."""
        known = {**self._starts, **self._positions}
        return [partition for partition in list(self._followed) if partition not in known]

    def begins_at(self, starts: Mapping[int, int]) -> None:
        """Note where reading will begin, by partition; what has been read says it better."""
        self._starts.update(starts)

    def measure(self, ends: Mapping[int, int]) -> None:
        """Set the gauges.

        Args:
            ends: The offset after the last record, by partition.
        """
        for partition, end in ends.items():
            position = self._positions.get(partition, self._starts.get(partition))
            if position is not None:
                unread = max(0, end - position)
                self._gauge.labels(str(partition)).set(unread + self._tracker.open_in(partition))
        for partition in self._elsewhere - self._followed:
            self._gauge.labels(str(partition)).set(self._tracker.open_in(partition))
