"""A stream for the status port: real metrics, stalls, tracker and liveness, and an idle batcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.core.offset_tracker import OffsetTracker
from connectors.embedders.endpoint import EndpointStatus
from connectors.embedders.failover import FallbackStatus
from connectors.observability.liveness import Liveness
from connectors.observability.metrics import Metrics
from connectors.observability.recent_events import RecentEvents
from connectors.observability.stalls import Stalls
from connectors.rag.service import SERVICE as RAG
from connectors.stores.stargate.service import SERVICE as STARGATE
from dataflow.clients import services_with
from gibsey_embedder.status.view import KafkaStatus, OutputView, StatusView

SERVICES = services_with(STARGATE)


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeBatcher:
    queued_texts: int = 0
    in_flight: int = 0
    fallback_status: FallbackStatus | None = None

    def endpoints(self) -> Sequence[EndpointStatus]:
        return [EndpointStatus("http://ollama:11434", self.in_flight, 2, 0)]


@dataclass
class FakeRows:
    open_rows: int = 0


@dataclass
class Stream:
    """What a test changes to change what the status port shows."""

    clock: Clock = field(default_factory=Clock)
    batcher: FakeBatcher = field(default_factory=FakeBatcher)
    metrics: Metrics = field(default_factory=lambda: Metrics(SERVICES))
    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    recent: RecentEvents = field(default_factory=RecentEvents)
    unanswered: list[str] = field(default_factory=list)
    stopping: bool = False
    kafka: KafkaStatus = field(
        default_factory=lambda: KafkaStatus(
            topic="cdc.pages",
            topic_partitions=3,
            partitions=[0, 1, 2],
            workers={0: 0, 1: 1, 2: 0},
        )
    )

    def __post_init__(self) -> None:
        self.stalls = Stalls(self.metrics, self.clock)
        self.liveness = Liveness(self.clock)
        self.liveness.polled()
        for partition in self.kafka["partitions"]:
            self.metrics.lag.labels(str(partition)).set(0)

    def view(self, **changes: Any) -> StatusView:
        settings = {
            "KAFKA_TOPIC": "cdc.pages",
            "DEAD_LETTER_TOPIC": "cdc.pages.dlq",
            "STARGATE_AUTH_TOKEN": "***",
        }
        view = StatusView(
            settings_redacted=settings,
            services=SERVICES,
            outputs=[OutputView(STARGATE, FakeRows(3), 32), OutputView(RAG, FakeRows(), 32)],
            metrics=self.metrics,
            stalls=self.stalls,
            tracker=self.tracker,
            liveness=self.liveness,
            batcher=self.batcher,
            kafka_status=lambda: self.kafka,
            version="0.1.0",
            model="nomic-embed-text",
            started_at=self.clock.now - 60,
            recent_events=self.recent,
            unanswered=lambda: self.unanswered,
            stopping=lambda: self.stopping,
        )
        return replace(view, **changes)
