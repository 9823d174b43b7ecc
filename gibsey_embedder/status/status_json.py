"""The content of `/status.json`: the current state of the stream; docs/status.md explains it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from connectors.delivery.write_queue import MAX_OPEN_ROWS
from connectors.observability.stalls import Stall
from gibsey_embedder.status import health, summary
from gibsey_embedder.status.history import QUANTILES_OVER_S, RATES_OVER_S, SAMPLE_S, History
from gibsey_embedder.status.memory import memory_bytes
from gibsey_embedder.status.metric_samples import HistogramSample, MetricReader, MetricSamples, Span
from gibsey_embedder.status.view import OutputView, StatusView

Json = dict[str, Any]  # only for orjson; no other module reads it

SHARED_FOR_S = 0.5
"""Requests within this time share one response, so that several open pages cost as much as one."""


class StatusData:
    """Collects what the status page shows; used on the event loop only.

    Args:
        view: The state of the stream.
        clock: Returns seconds since 1970.
    """

    def __init__(self, view: StatusView, clock: Callable[[], float] = time.time) -> None:
        self._view = view
        self._clock = clock
        self._reader = MetricReader(view.metrics, clock)
        self._history = History()
        self._latest: tuple[float, Json] | None = None

    async def sample_for_ever(self) -> None:
        """Take a sample every two seconds."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    def sample(self) -> None:
        """Take a sample for the history."""
        view = self._view
        stalled = bool(view.stalls.current())
        self._history.add(self._reader.read(), view.tracker.open_pages, stalled)

    def status(self, history_since: float | None = None) -> Json:
        """Return the status, with the history after `history_since` if it is given."""
        if history_since is None:
            return self._shared()
        return {**self._shared(), "history": self._history.columns(history_since)}

    def _shared(self) -> Json:
        now = self._clock()
        if self._latest is None or abs(now - self._latest[0]) > SHARED_FOR_S:
            self._latest = (now, self._status())
        return self._latest[1]

    def _status(self) -> Json:
        view = self._view
        samples = self._reader.read()
        stages = self._stages(samples)
        freshness = self._freshness(samples)
        other_space = samples.total("other_space")
        lag = self._lag(samples)
        state = summary.summarize(view, stages, freshness, lag["total"], other_space)
        fallback = view.batcher.fallback_status
        for name, stage_state in summary.stage_states(view, stages, state["bottleneck"]).items():
            stages[name]["state"] = stage_state
        return {
            "version": view.version,
            "model": view.model,
            "now": samples.at,
            "started_at": view.started_at,
            "state": state,
            "stalls": [_stall(view, stall, samples.at) for stall in view.stalls.current()],
            "fallback": asdict(fallback) if fallback else None,
            "stages": stages,
            "outputs": [
                {"stage": output.service.stage, "title": output.service.title}
                for output in view.outputs
            ],
            "lag": lag,
            "freshness": freshness,
            "tasks": self._tasks(),
            "process": self._process(samples),
            "counts": _counts(samples),
            "recent": [asdict(event) for event in view.recent_events.latest()],
            "settings": dict(view.settings_redacted),
        }

    def _stages(self, samples: MetricSamples) -> Json:
        return {
            "kafka": self._kafka(samples),
            "filter": self._filter(samples),
            "window": self._window(samples),
            "embedder": self._embedder(samples),
            **{o.service.stage: self._output(samples, o) for o in self._view.outputs},
            "dead_letters": self._dead_letters(samples),
        }

    def _kafka(self, samples: MetricSamples) -> Json:
        kafka = self._view.kafka_status()
        return {
            "rate_per_s": _rounded(self._history.span(samples, RATES_OVER_S).rate("events")),
            "topic": kafka.get("topic", ""),
            "topic_partitions": kafka.get("topic_partitions") or None,
            "partitions": sorted(kafka.get("partitions", ())),
        }

    def _filter(self, samples: MetricSamples) -> Json:
        now = self._history.span(samples, RATES_OVER_S)

        def passed(labels: tuple[str, ...]) -> bool:
            return labels[1] in ("embedded", "refused", "deleted")

        return {
            "rate_per_s": _rounded(now.rate("events", passed)),
            "skipped_per_s": _rounded(now.rate("events", lambda labels: not passed(labels))),
        }

    def _window(self, samples: MetricSamples) -> Json:
        pages = self._history.span(samples, QUANTILES_OVER_S).histogram("window_pages")
        now = self._history.span(samples, RATES_OVER_S)
        return {
            "rate_per_s": _rounded(now.histogram("window_pages").count / now.seconds),
            "waiting_texts": self._view.batcher.queued_texts,
            "pages_mean": _rounded(pages.mean),
            **self._latency(samples, "queue"),
        }

    def _embedder(self, samples: MetricSamples) -> Json:
        now = self._history.span(samples, RATES_OVER_S)
        endpoints = self._view.batcher.endpoints()
        slots = sum(e.concurrency for e in endpoints)
        return {
            "rate_per_s": _rounded(now.histogram("window_pages").total / now.seconds),
            "slots": slots,
            "load": _load(now, "embed", slots),
            "endpoints": [
                {"name": e.name, "in_flight": e.in_flight, "faults": e.failures} for e in endpoints
            ],
            "cache": samples.by_label("cache"),
            **self._latency(samples, "embed"),
        }

    def _output(self, samples: MetricSamples, output: OutputView) -> Json:
        now = self._history.span(samples, RATES_OVER_S)
        service = output.service
        return {
            "rate_per_s": _rounded(now.rate(service.counter)),
            "open_rows": output.rows.open_rows,
            "open_rows_limit": MAX_OPEN_ROWS,
            "slots": output.slots,
            "load": _load(now, service.name, output.slots),
            **self._latency(samples, service.name),
        }

    def _dead_letters(self, samples: MetricSamples) -> Json:
        now = self._history.span(samples, RATES_OVER_S)
        return {
            "rate_per_s": _rounded(now.rate("dead_letters")),
            "total": int(samples.total("dead_letters")),
            "by_reason": {k: int(v) for k, v in samples.by_label("dead_letters").items() if v},
            "topic": self._view.settings_redacted.get("DEAD_LETTER_TOPIC", ""),
        }

    def _latency(self, samples: MetricSamples, stage: str) -> Json:
        return _quantiles(self._history.span(samples, QUANTILES_OVER_S).histogram("stage", stage))

    def _freshness(self, samples: MetricSamples) -> Json:
        minute = self._history.span(samples, QUANTILES_OVER_S)
        histograms = {since: minute.histogram("freshness", since) for since in ("kafka", "write")}
        return {
            since: {**_quantiles(histogram), "count": int(histogram.count)}
            for since, histogram in histograms.items()
        }

    def _lag(self, samples: MetricSamples) -> Json:
        kafka = self._view.kafka_status()
        threads = kafka.get("workers", {})
        lags = {int(number): int(lag) for number, lag in samples.by_label("lag").items()}
        numbers = sorted({*lags, *kafka.get("partitions", ())})
        is_known = kafka.get("topic_partitions", 0) and len(lags) == len(numbers)
        return {
            "total": sum(lags.values()) if is_known else None,
            "partitions": [
                {
                    "partition": number,
                    "lag": lags.get(number),
                    "open": self._view.tracker.open_in(number),
                    "worker": threads.get(number),
                }
                for number in numbers
            ],
        }

    def _tasks(self) -> Json:
        view, launch = self._view, self._view.launch
        return {
            "workers": launch.workers,
            "workers_seen": view.liveness.workers,
            "oldest_beat_s": _rounded(view.liveness.longest_silence_s()),
            "process": launch.process,
            "processes": launch.processes,
            "recovery_dir": launch.recovery_dir,
            "open_pages": view.tracker.open_pages,
            "open_bytes": view.tracker.open_bytes,
            "windows_in_flight": sum(e.in_flight for e in view.batcher.endpoints()),
        }

    def _process(self, samples: MetricSamples) -> Json:
        span = self._history.span(samples, RATES_OVER_S)
        return {"cpu_share": _rounded(span.cpu_share), "memory_bytes": memory_bytes()}


def _stall(view: StatusView, stall: Stall, now: float) -> Json:
    return {
        **asdict(stall),
        "for_s": round(now - stall.since, 1),
        "text": health.describe_stall(view, stall),
    }


def _counts(samples: MetricSamples) -> Json:
    """Return the counts since the start."""
    by_outcome: dict[str, int] = {}
    for (_, outcome), value in samples.counts["events"].items():
        by_outcome[outcome] = by_outcome.get(outcome, 0) + int(value)
    return {
        "events": by_outcome,
        "upserts": int(samples.total("upserts")),
        "notifications": {k: int(v) for k, v in samples.by_label("notifications").items()},
        "dead_letters": int(samples.total("dead_letters")),
        "retries": {k: int(v) for k, v in samples.by_label("retries").items()},
        "offset_resets": int(samples.total("offset_resets")),
        "other_space_pages": int(samples.total("other_space")),
    }


def _load(now: Span, stage: str, slots: int) -> float | None:
    """Return the share of its slots that a stage used, by Little's law."""
    return _rounded(now.histogram("stage", stage).total / now.seconds / slots) if slots else None


def _quantiles(histogram: HistogramSample) -> Json:
    return {"p50_s": _rounded(histogram.quantile(0.5)), "p95_s": _rounded(histogram.quantile(0.95))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
