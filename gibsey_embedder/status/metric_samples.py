"""The metrics at one moment, and the difference between two moments."""

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
    """A histogram at one moment.

    Attributes:
        bounds: Upper bounds of its buckets; the last one is infinite.
        counts: Observations up to each bound.
        total: The sum of all observations.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def count(self) -> float:
        """The number of observations."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float | None:
        """The mean of the observations; None without observations."""
        return self.total / self.count if self.count else None

    def minus(self, older: HistogramSample | None) -> HistogramSample:
        """Return the observations since an older sample of the same histogram."""
        if older is None:
            return self
        counts = tuple(new - old for new, old in zip(self.counts, older.counts, strict=True))
        return HistogramSample(self.bounds, counts, self.total - older.total)

    def quantile(self, q: float) -> float | None:
        """Return the quantile `q`, interpolated in its bucket as Prometheus does."""
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


NO_OBSERVATIONS = HistogramSample((), (), 0.0)


@dataclass(frozen=True, slots=True)
class MetricSamples:
    """The metrics at one moment.

    Attributes:
        at: The moment (seconds since 1970).
        cpu_s: Processor seconds of the process so far.
        counts: Counters and gauges by name and labels.
        histograms: Histograms by name and labels.
    """

    at: float
    cpu_s: float
    counts: Mapping[str, Mapping[Labels, float]]
    histograms: Mapping[str, Mapping[Labels, HistogramSample]]

    def total(self, name: str, matches: Callable[[Labels], bool] = lambda _: True) -> float:
        """Return the sum of a counter over the labels that match."""
        return sum(value for labels, value in self.counts[name].items() if matches(labels))

    def by_label(self, name: str) -> dict[str, float]:
        """Return a counter or gauge by its first label."""
        return {labels[0]: value for labels, value in sorted(self.counts[name].items())}

    def histogram(self, name: str, *labels: str) -> HistogramSample:
        """Return a histogram."""
        return self.histograms[name].get(labels, NO_OBSERVATIONS)


@dataclass(frozen=True, slots=True)
class Span:
    """The difference between two moments."""

    older: MetricSamples
    newer: MetricSamples

    @property
    def seconds(self) -> float:
        """The length of the span; never 0."""
        return max(self.newer.at - self.older.at, 1e-3)

    def rate(self, name: str, matches: Callable[[Labels], bool] = lambda _: True) -> float:
        """Return the increase of a counter per second."""
        increase = self.newer.total(name, matches) - self.older.total(name, matches)
        return max(increase, 0.0) / self.seconds

    def histogram(self, name: str, *labels: str) -> HistogramSample:
        """Return the observations of a histogram."""
        older = self.older.histograms[name].get(labels)
        return self.newer.histogram(name, *labels).minus(older)

    @property
    def cpu_share(self) -> float:
        """Processor seconds per second."""
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
        self._histograms: dict[str, Collector] = {
            "freshness": metrics.freshness,
            "stage": metrics.stage,
            "window_pages": metrics.window_pages,
        }

    def read(self) -> MetricSamples:
        """Read all metrics."""
        return MetricSamples(
            self._clock(),
            time.process_time(),
            {name: _values(metric) for name, metric in self._counts.items()},
            {name: _histograms(metric) for name, metric in self._histograms.items()},
        )


def _samples(metric: Collector) -> Iterable[tuple[str, dict[str, str], float]]:
    for family in metric.collect():
        for sample in family.samples:
            yield sample.name.removeprefix(family.name), sample.labels, sample.value


def _values(metric: Collector) -> dict[Labels, float]:
    kinds = ("", "_total")
    return {tuple(by.values()): value for kind, by, value in _samples(metric) if kind in kinds}


def _histograms(metric: Collector) -> dict[Labels, HistogramSample]:
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    sums: dict[Labels, float] = {}
    for kind, by, value in _samples(metric):
        labels = tuple(text for name, text in by.items() if name != "le")
        if kind == "_bucket":
            buckets.setdefault(labels, []).append((float(by["le"]), value))
        elif kind == "_sum":
            sums[labels] = value
    histograms = {}
    for labels, pairs in buckets.items():
        bounds, counts = zip(*pairs, strict=True)
        histograms[labels] = HistogramSample(bounds, counts, sums.get(labels, 0.0))
    return histograms
