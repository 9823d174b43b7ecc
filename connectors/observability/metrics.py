"""What the stream counts. The number of label values is bounded by design.

Dashboards, alerts and the status page use these names (deploy/,
gibsey_embedder/status/metric_samples.py). Change a name in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from connectors.core.services import Service

_FRESHNESS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 3600)
_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100, 300)
_WINDOW_PAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics of one process, in a registry of their own.

    Args:
        services: The services that the process talks to. Their labels start at 0, so that an alert
            sees the first stall and the first dead letter too.
    """

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self.registry = CollectorRegistry()
        self._make_counters()
        self._make_histograms()
        self._make_gauges()
        for service in services:
            self.stalled.labels(service.name).set(0)
            self.retries.labels(service.name)
            for reason in service.reasons:
                self.dead_letters.labels(reason)

    def _make_counters(self) -> None:
        counter = partial(Counter, registry=self.registry)
        self.events = counter(
            "gibsey_events",
            "Change events by operation and outcome.",
            ["op", "outcome"],
        )
        self.upserts = counter("gibsey_page_vectors_upserts", "Vectors acknowledged by the store.")
        self.notifications = counter(
            "gibsey_rag_notifications", "Notifications sent to the RAG service.", ["outcome"]
        )
        self.dead_letters = counter("gibsey_dead_letters", "Confirmed dead letters.", ["reason"])
        self.cache = counter("gibsey_cache", "Lookups in the embedding cache.", ["result"])
        self.retries = counter("gibsey_retries", "Failed requests that are retried.", ["service"])
        self.offset_resets = counter(
            "gibsey_offset_resets",
            "Partitions that resumed at the earliest offset because theirs no longer existed.",
        )

    def _make_histograms(self) -> None:
        histogram = partial(Histogram, registry=self.registry)
        self.freshness = histogram(
            "gibsey_freshness_seconds",
            "Time from the change to the acknowledgement of the last output.",
            ["since"],
            buckets=_FRESHNESS_S,
        )
        self.stage = histogram(
            "gibsey_stage_seconds",
            "Time that a page or a request spends in a stage.",
            ["stage"],
            buckets=_STAGE_S,
        )
        self.window_pages = histogram(
            "gibsey_window_pages", "Texts in one embedding request.", buckets=_WINDOW_PAGES
        )

    def _make_gauges(self) -> None:
        gauge = partial(Gauge, registry=self.registry)
        self.lag = gauge(
            "gibsey_consumer_lag", "Messages in the topic that are not yet settled.", ["partition"]
        )
        self.embed_in_flight = gauge(
            "gibsey_embed_in_flight", "Embedding requests in flight.", ["endpoint"]
        )
        self.stalled = gauge(
            "gibsey_stalled", "1 while the stream waits for the service.", ["service"]
        )
        self.fallback_at_work = gauge("gibsey_fallback_at_work", "1 while the fallback embeds.")
        self.other_space_pages = gauge(
            "gibsey_other_space_pages",
            "Known pages whose newest vector comes from the fallback.",
        )
        self.build_info = gauge(
            "gibsey_build_info",
            "Version and model in use; always 1.",
            ["version", "model"],
        )
