"""How far the outputs are behind the topic, partition by partition."""

from __future__ import annotations

import contextlib
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
        # Both are written by the workers and read by the topic's watch.
        self._followed: set[int] = set()
        self._positions: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._elsewhere: set[int] = set()

    def follow(self, partition: int) -> None:
        """Note a partition that this process reads, from wherever its group is."""
        self._followed.add(partition)
