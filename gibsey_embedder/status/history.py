"""The history of the last 15 minutes, and the metrics of the last minute."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gibsey_embedder.status.metric_samples import MetricSamples, Span

SAMPLE_S = 2.0
KEPT_S = 900.0
RATES_OVER_S = 10.0
"""Rates are means over this time, which makes them steady enough to read."""
QUANTILES_OVER_S = 60.0

SERIES = (
    "at",
    "settled_per_s",
    "embedded_per_s",
    "upserts_per_s",
    "notifications_per_s",
    "dead_letters_per_s",
    "lag",
    "open_pages",
    "freshness_p50_s",
    "freshness_p95_s",
    "cpu_share",
    "stalled",
)
"""The columns of a sample, in order."""

Sample = tuple[float | None, ...]


class History:
    """Samples of the last 15 minutes; bounded, about 100 KB."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=int(KEPT_S / SAMPLE_S))
        self._recent: deque[MetricSamples] = deque(maxlen=int(QUANTILES_OVER_S / SAMPLE_S) + 1)

    def add(self, samples: MetricSamples, open_pages: int, stalled: bool) -> None:
        """Add the metrics at one moment, and a sample of the changes since the last moment."""
        if self._recent:
            span = Span(self._recent[-1], samples)
            self._samples.append(_sample(span, open_pages, stalled))
        self._recent.append(samples)

    def span(self, newer: MetricSamples, seconds: float) -> Span:
        """Return the span of about `seconds` that ends with `newer`; it is shorter at the start."""
        for older in self._recent:
            if newer.at - older.at <= seconds + SAMPLE_S / 2:
                return Span(older, newer)
        return Span(self._recent[-1] if self._recent else newer, newer)

    def columns(self, since: float) -> dict[str, Sequence[float | None]]:
        """Return the samples after `since` (seconds since 1970) as columns, oldest first."""
        rows = [sample for sample in self._samples if (sample[0] or 0.0) > since]
        if not rows:
            return dict.fromkeys(SERIES, ())
        return dict(zip(SERIES, zip(*rows, strict=True), strict=True))


def _sample(span: Span, open_pages: int, stalled: bool) -> Sample:
    freshness = span.histogram("freshness", "kafka")
    values = (
        span.newer.at,
        span.rate("events"),
        span.rate("events", lambda labels: labels[1] == "embedded"),
        span.rate("upserts"),
        span.rate("notifications"),
        span.rate("dead_letters"),
        span.newer.total("lag"),
        open_pages,
        freshness.quantile(0.5),
        freshness.quantile(0.95),
        span.cpu_share,
        float(stalled),
    )
    return tuple(None if value is None else round(value, 4) for value in values)
