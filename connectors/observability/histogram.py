"""Histograms of what one thread alone observes.

An observation costs 0.3 us. prometheus_client's, which any thread may make, takes a lock twice and
costs 2; the event loop makes four a page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from typing_extensions import override


class Series:
    """The observations of one value of the label.

    Args:
        bounds: Upper bounds of the buckets, the infinite one left out.

    Attributes:
        counts: Observations in each bucket.
        total: Their sum.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value; on one thread only."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram(Collector):
    """A histogram with one label; it may be collected from any thread.

    Args:
        name: The metric's name.
        documentation: What it says of itself.
        label: The label's name.
        bounds: Upper bounds of the buckets, ascending, the infinite one left out.
        registry: Where it is shown.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._about = name, documentation
        self._label = label
        self._bounds = bounds
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._series: dict[str, Series] = {}
        registry.register(self)

    def labels(self, value: str) -> Series:
        """The series of one value of the label."""
        return self._series.setdefault(value, Series(self._bounds))

    @override
    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What prometheus_client asks for."""
        family = HistogramMetricFamily(*self._about, labels=[self._label])
        for value, series in list(self._series.items()):
            buckets = list(zip(self._names, accumulate(series.counts), strict=True))
            family.add_metric([value], buckets, series.total)
        yield family
