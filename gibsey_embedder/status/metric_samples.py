"""The metrics at one moment, and what happened between two of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.registry import Collector

from connectors.observability.metrics import Metrics

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """What a histogram holds.

    Attributes:
        bounds: Upper bounds of its buckets, the last one infinite.
        counts: Observations up to each bound.
        total: The sum of all observations.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def count(self) -> float:
        """Observations."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        """Their mean, None without any."""
        return self.total / self.count if self.count else None

    def minus(self, older: HistogramSample | None) -> HistogramSample:
        """What came since an older reading of the same histogram."""
        if older is None:
            return self
        counts = tuple(new - old for new, old in zip(self.counts, older.counts, strict=True))
        return HistogramSample(self.bounds, counts, self.total - older.total)

    def quantile(self, q: float) -> float | None:
        """The value below which a share `q` lies, interpolated in its bucket as Prometheus does."""
        rank = q * self.count
        lower, below = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count and count >= rank:
                if math.isinf(bound):
                    return lower
                share = (rank - below) / (count - below) if count > below else 1.0
                return lower + (bound - lower) * share
            lower, below = bound, count
        return None


NO_SPREAD = HistogramSample((), (), 0.0)


@dataclass(frozen=True, slots=True)
class MetricSamples:
    """The metrics at one moment.

    Attributes:
        at: When (seconds since 1970).
        cpu_s: Processor seconds of the process so far.
        counts: Counters and gauges by name and labels.
        spreads: Histograms by name and labels.
    """

    at: float
    cpu_s: float
    counts: Mapping[str, Mapping[Labels, float]]
    spreads: Mapping[str, Mapping[Labels, HistogramSample]]

    def total(self, name: str, matches: Callable[[Labels], bool] = lambda _: True) -> float:
        """The sum of a counter over the labels that match."""
        return sum(value for labels, value in self.counts[name].items() if matches(labels))

    def by_label(self, name: str) -> dict[str, float]:
        """A counter or gauge by its first label."""
        return {labels[0]: value for labels, value in sorted(self.counts[name].items())}

    def spread(self, name: str, *labels: str) -> HistogramSample:
        """A histogram."""
        return self.spreads[name].get(labels, NO_SPREAD)


@dataclass(frozen=True, slots=True)
class Span:
    """What happened from one reading to a later one."""

    older: MetricSamples
    newer: MetricSamples

    @property
    def seconds(self) -> float:
        """Its length, never 0."""
        return max(self.newer.at - self.older.at, 1e-3)

    def rate(self, name: str, matches: Callable[[Labels], bool] = lambda _: True) -> float:
        """Events a second of a counter."""
        more = self.newer.total(name, matches) - self.older.total(name, matches)
        return max(more, 0.0) / self.seconds

    def spread(self, name: str, *labels: str) -> HistogramSample:
        """What a histogram got."""
        older = self.older.spreads[name].get(labels)
        return self.newer.spread(name, *labels).minus(older)

    @property
    def cpu_share(self) -> float:
        """Processor seconds a second."""
        return max(self.newer.cpu_s - self.older.cpu_s, 0.0) / self.seconds


class MetricReader:
    """Reads the metrics that the status page shows.

    Args:
        metrics: The metrics.
        clock: Seconds since 1970.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counts: dict[str, Collector] = {
            "events": metrics.events,
            "upserts": metrics.upserts,
            "notifications": metrics.notifications,
            "dead_letters": metrics.dead_letters,
            "lag": metrics.lag,
            "cache": metrics.cache,
            "retries": metrics.retries,
            "offset_resets": metrics.offset_resets,
            "other_space": metrics.other_space_pages,
        }
        self._spreads: dict[str, Collector] = {
            "freshness": metrics.freshness,
            "stage": metrics.stage,
            "window_pages": metrics.window_pages,
        }

    def read(self) -> MetricSamples:
        """Read them all."""
        return MetricSamples(
            self._clock(),
            time.process_time(),
            {name: _values(metric) for name, metric in self._counts.items()},
            {name: _spreads(metric) for name, metric in self._spreads.items()},
        )


def _samples(metric: Collector) -> Iterable[tuple[str, dict[str, str], float]]:
    for family in metric.collect():
        for sample in family.samples:
            yield sample.name.removeprefix(family.name), sample.labels, sample.value


def _values(metric: Collector) -> dict[Labels, float]:
    wanted = ("", "_total")
    return {tuple(by.values()): value for kind, by, value in _samples(metric) if kind in wanted}


def _spreads(metric: Collector) -> dict[Labels, HistogramSample]:
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    sums: dict[Labels, float] = {}
    for kind, by, value in _samples(metric):
        labels = tuple(text for name, text in by.items() if name != "le")
        if kind == "_bucket":
            buckets.setdefault(labels, []).append((float(by["le"]), value))
        elif kind == "_sum":
            sums[labels] = value
    found = {}
    for labels, pairs in buckets.items():
        bounds, counts = zip(*pairs, strict=True)
        found[labels] = HistogramSample(bounds, counts, sums.get(labels, 0.0))
    return found
