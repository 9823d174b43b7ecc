"""The consumer lag: how far the outputs are behind the topic, by partition."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from connectors.core.offset_tracker import OffsetTracker
from connectors.observability.metrics import Metrics


class Lag:
    """Sets `gibsey_consumer_lag` for the partitions that this process has records of.

    In a cluster, a record that another process read may be open in this one. It counts here, and
    the other process counts unread records only: the sum over all processes is the lag.

    Args:
        tracker: The open records of the process.
        metrics: Where the gauge is.
    """

    def __init__(self, tracker: OffsetTracker, metrics: Metrics) -> None:
        self._tracker = tracker
        self._gauge = metrics.lag
        # The workers write these, and the thread of the metadata monitor reads them.
        self._read_here: set[int] = set()
        self._positions: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._open_only: set[int] = set()

    def follow(self, partition: int) -> None:
        """Add a partition that this process reads, from an unknown position."""
        self._read_here.add(partition)

    def read_up_to(self, partition: int, next_offset: int) -> None:
        """Note the offset that is read next."""
        self._positions[partition] = next_offset
        self._read_here.add(partition)

    def forget(self, partition: int) -> None:
        """Remove a partition that this process no longer reads."""
        self._read_here.discard(partition)
        self._positions.pop(partition, None)
        self._starts.pop(partition, None)
        with contextlib.suppress(KeyError):
            self._gauge.remove(str(partition))

    def partitions(self) -> list[int]:
        """Return the partitions that this process reads, and those of its other open records."""
        if self._tracker.shared:
            self._open_only |= self._tracker.open_partitions() - self._read_here
        return [*self._read_here, *(self._open_only - self._read_here)]

    def without_position(self) -> list[int]:
        """Return the partitions whose position is unknown: nothing has been read from them."""
        known = {**self._starts, **self._positions}
        return [partition for partition in list(self._read_here) if partition not in known]

    def starts_at(self, starts: Mapping[int, int]) -> None:
        """Note where reading will start, by partition; a position from reading replaces it."""
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
        for partition in self._open_only - self._read_here:
            self._gauge.labels(str(partition)).set(self._tracker.open_in(partition))
