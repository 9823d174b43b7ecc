"""What `/status.json` says: the stream at this moment (docs/status.md explains every field)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from connectors.delivery.write_queue import MAX_OPEN_ROWS
from connectors.observability.stalls import Stall
from gibsey_embedder.status import health, summary
from gibsey_embedder.status.history import RATES_OVER_S, SAMPLE_S, SPREADS_OVER_S, History
from gibsey_embedder.status.memory import resident_bytes
from gibsey_embedder.status.metric_samples import HistogramSample, MetricReader, MetricSamples, Span
from gibsey_embedder.status.view import StatusView

Json = dict[str, Any]  # made here, for orjson; nobody reads it as an object of Python

SHARED_FOR_S = 0.5
"""Several open pages cost no more than one: an answer is used again for so long."""


class StatusData:
    """Collects what the status page shows; used on the event loop only.

    Args:
        view: The stream.
        clock: Seconds since 1970.
    """

    def __init__(self, view: StatusView, clock: Callable[[], float] = time.time) -> None:
        self._view = view
        self._clock = clock
        self._reader = MetricReader(view.metrics, clock)
        self._history = History()
        self._made: tuple[float, Json] | None = None

    async def sample_for_ever(self) -> None:
        """Take a sample every two seconds."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    def sample(self) -> None:
        """Take a sample for the history."""
        view = self._view
        stalled = bool(view.stalls.current())
        self._history.take(self._reader.read(), view.tracker.open_pages, stalled)

    def status(self, history_since: float | None = None) -> Json:
        """Return everything; the history only where it is asked for, after that time."""
        if history_since is None:
            return self._shared()
        return {**self._shared(), "history": self._history.columns(history_since)}

    def _shared(self) -> Json:
        now = self._clock()
        if self._made is None or abs(now - self._made[0]) > SHARED_FOR_S:
            self._made = (now, self._status())
        return self._made[1]

    def _status(self) -> Json:
        view = self._view
        reading = self._reader.read()
        stages = self._stages(reading)
        freshness = self._freshness(reading)
        other_space = reading.total("other_space")
        lag = self._lag(reading)
        state = summary.summarize(view, stages, freshness, lag["total"], other_space)
        at_work = view.batcher.fallback_status
        for name, word in summary.stage_states(view, stages, state["bottleneck"]).items():
            stages[name]["state"] = word
        return {
            "version": view.version,
            "model": view.model,
            "now": reading.at,
            "started_at": view.started_at,
            "state": state,
            "stalls": [_stall(stall, reading.at) for stall in view.stalls.current()],
            "fallback": asdict(at_work) if at_work else None,
            "stages": stages,
            "lag": lag,
            "freshness": freshness,
            "tasks": self._tasks(),
            "process": self._process(reading),
            "counts": _counts(reading),
            "recent": [asdict(event) for event in view.recent_events.latest()],
            "settings": dict(view.settings_redacted),
        }

    def _stages(self, reading: MetricSamples) -> Json:
        return {
            "kafka": self._kafka(reading),
            "filter": self._filter(reading),
            "window": self._window(reading),
            "embedder": self._embedder(reading),
            "stargate": self._output(reading, "stargate", "upserts", "STARGATE_CONCURRENCY"),
            "rag": self._output(reading, "rag", "notifications", "RAG_CONCURRENCY"),
            "dead_letters": self._dead_letters(reading),
        }

    def _kafka(self, reading: MetricSamples) -> Json:
        kafka = self._view.kafka_status()
        return {
            "rate_per_s": _rounded(self._history.back(reading, RATES_OVER_S).rate("events")),
            "topic": kafka.get("topic", ""),
            "topic_partitions": kafka.get("topic_partitions") or None,
            "partitions": sorted(kafka.get("partitions", ())),
        }

    def _filter(self, reading: MetricSamples) -> Json:
        now = self._history.back(reading, RATES_OVER_S)

        def passed(labels: tuple[str, ...]) -> bool:
            return labels[1] in ("embedded", "refused", "deleted")

        return {
            "rate_per_s": _rounded(now.rate("events", passed)),
            "skipped_per_s": _rounded(now.rate("events", lambda labels: not passed(labels))),
        }

    def _window(self, reading: MetricSamples) -> Json:
        pages = self._history.back(reading, SPREADS_OVER_S).spread("window_pages")
        now = self._history.back(reading, RATES_OVER_S)
        return {
            "rate_per_s": _rounded(now.spread("window_pages").count / now.seconds),
            "waiting_texts": self._view.batcher.queued_texts,
            "pages_mean": _rounded(pages.mean),
            **self._latency(reading, "queue"),
        }

    def _embedder(self, reading: MetricSamples) -> Json:
        now = self._history.back(reading, RATES_OVER_S)
        endpoints = self._view.batcher.endpoints()
        slots = sum(e.concurrency for e in endpoints)
        return {
            "rate_per_s": _rounded(now.spread("window_pages").total / now.seconds),
            "slots": slots,
            "load": _load(now, "embed", slots),
            "endpoints": [
                {"name": e.name, "in_flight": e.in_flight, "faults": e.failures} for e in endpoints
            ],
            "cache": reading.by_label("cache"),
            **self._latency(reading, "embed"),
        }

    def _output(self, reading: MetricSamples, name: str, counter: str, concurrency: str) -> Json:
        now = self._history.back(reading, RATES_OVER_S)
        box = self._view.write_queues.get(name)
        slots = int(self._view.settings_redacted.get(concurrency) or 0)
        return {
            "rate_per_s": _rounded(now.rate(counter)),
            "open_rows": box.open_rows if box else 0,
            "open_rows_limit": MAX_OPEN_ROWS,
            "slots": slots,
            "load": _load(now, name, slots),
            **self._latency(reading, name),
        }

    def _dead_letters(self, reading: MetricSamples) -> Json:
        now = self._history.back(reading, RATES_OVER_S)
        return {
            "rate_per_s": _rounded(now.rate("dead_letters")),
            "total": int(reading.total("dead_letters")),
            "by_reason": {k: int(v) for k, v in reading.by_label("dead_letters").items() if v},
            "topic": self._view.settings_redacted.get("DEAD_LETTER_TOPIC", ""),
        }

    def _latency(self, reading: MetricSamples, stage: str) -> Json:
        return _quantiles(self._history.back(reading, SPREADS_OVER_S).spread("stage", stage))

    def _freshness(self, reading: MetricSamples) -> Json:
        minute = self._history.back(reading, SPREADS_OVER_S)
        spreads = {since: minute.spread("freshness", since) for since in ("kafka", "write")}
        return {
            since: {**_quantiles(spread), "count": int(spread.count)}
            for since, spread in spreads.items()
        }

    def _lag(self, reading: MetricSamples) -> Json:
        kafka = self._view.kafka_status()
        threads = kafka.get("workers", {})
        numbered = {ident: n for n, ident in enumerate(sorted(set(threads.values())))}
        lags = {int(number): int(lag) for number, lag in reading.by_label("lag").items()}
        numbers = sorted({*lags, *kafka.get("partitions", ())})
        is_known = kafka.get("topic_partitions", 0) and len(lags) == len(numbers)
        return {
            "total": sum(lags.values()) if is_known else None,
            "partitions": [
                {
                    "partition": number,
                    "lag": lags.get(number),
                    "open": self._view.tracker.open_in(number),
                    "worker": numbered.get(threads.get(number, -1)),
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

    def _process(self, reading: MetricSamples) -> Json:
        span = self._history.back(reading, RATES_OVER_S)
        return {"cpu_share": _rounded(span.cpu_share), "memory_bytes": resident_bytes()}


def _stall(stall: Stall, now: float) -> Json:
    return {
        **asdict(stall),
        "for_s": round(now - stall.since, 1),
        "text": health.describe_stall(stall),
    }


def _counts(reading: MetricSamples) -> Json:
    """Counts since the start, as a person adds them up."""
    by_outcome: dict[str, int] = {}
    for (_, outcome), value in reading.counts["events"].items():
        by_outcome[outcome] = by_outcome.get(outcome, 0) + int(value)
    return {
        "events": by_outcome,
        "upserts": int(reading.total("upserts")),
        "notifications": {k: int(v) for k, v in reading.by_label("notifications").items()},
        "dead_letters": int(reading.total("dead_letters")),
        "retries": {k: int(v) for k, v in reading.by_label("retries").items()},
        "offset_resets": int(reading.total("offset_resets")),
        "other_space_pages": int(reading.total("other_space")),
    }


def _load(now: Span, stage: str, slots: int) -> float | None:
    """Which share of its places in flight a stage used, by Little's law."""
    return _rounded(now.spread("stage", stage).total / now.seconds / slots) if slots else None


def _quantiles(spread: HistogramSample) -> Json:
    return {"p50_s": _rounded(spread.quantile(0.5)), "p95_s": _rounded(spread.quantile(0.95))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
