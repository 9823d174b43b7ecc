"""What the status port is shown of the stream: read only, nothing of it is Bytewax's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

from connectors.core.offset_tracker import OffsetTracker
from connectors.embedders.endpoint import EndpointStatus
from connectors.embedders.failover import FallbackStatus
from connectors.observability.liveness import Liveness
from connectors.observability.metrics import Metrics
from connectors.observability.recent_events import RecentEvents
from connectors.observability.stalls import Stalls


class KafkaStatus(TypedDict, total=False):
    """What the source knows of its topic; keys it does not know yet are left out.

    Attributes:
        topic: The topic's name.
        topic_partitions: How many partitions it has; absent or 0 until the broker has told.
        partitions: Those that this process reads.
        workers: Which of the process's reading threads has a partition, counted from 0.
    """

    topic: str
    topic_partitions: int
    partitions: Sequence[int]
    workers: Mapping[int, int]


class BatcherView(Protocol):
    """The batcher, as the status port sees it."""

    @property
    def queued_texts(self) -> int:
        """Texts that wait for a window."""

    def endpoints(self) -> Sequence[EndpointStatus]:
        """Each endpoint that is made use of."""

    @property
    def fallback_status(self) -> FallbackStatus | None:
        """What the fallback does; None while it does nothing."""


class OpenRows(Protocol):
    """A write queue, as the status port sees it."""

    @property
    def open_rows(self) -> int:
        """Rows that are not settled."""


@dataclass(frozen=True, slots=True)
class LaunchInfo:
    """How the process was started.

    Attributes:
        workers: Its worker threads.
        process: Its number in the cluster, from 0.
        processes: How many processes the cluster has.
        recovery_dir: Its recovery store, or None.
    """

    workers: int = 1
    process: int = 0
    processes: int = 1
    recovery_dir: str | None = None


def _nothing() -> Sequence[str]:
    return ()


def _no() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything that the status port reads.

    Attributes:
        settings_redacted: Every setting as it may be shown, by variable.
        metrics: What is counted.
        stalls: What the stream waits for.
        tracker: The open records.
        liveness: Whether the workers turn.
        batcher: The embedder's queue and endpoints.
        write_queues: Rows on their way by service: `stargate`, `rag`, `dead-letters`.
        kafka_status: What the source knows of its topic.
        version: The program's version.
        model: The model in use.
        started_at: When the process started (seconds since 1970).
        launch: How it was started.
        recent: The latest warnings, errors and dead letters.
        unanswered: Services that have never answered yet, as names for people.
        stopping: Whether a stop was asked for.
    """

    settings_redacted: Mapping[str, str]
    metrics: Metrics
    stalls: Stalls
    tracker: OffsetTracker
    liveness: Liveness
    batcher: BatcherView
    write_queues: Mapping[str, OpenRows]
    kafka_status: Callable[[], KafkaStatus]
    version: str
    model: str
    started_at: float
    launch: LaunchInfo = field(default_factory=LaunchInfo)
    recent_events: RecentEvents = field(default_factory=RecentEvents)
    unanswered: Callable[[], Sequence[str]] = _nothing
    stopping: Callable[[], bool] = _no
