"""What the status port reads of the stream; it does not depend on Bytewax."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.services import Service
from connectors.embedders.batching.interface import BatcherStatus
from connectors.observability.liveness import Liveness
from connectors.observability.metrics import Metrics
from connectors.observability.recent_events import RecentEvents
from connectors.observability.stalls import Stalls


class KafkaStatus(TypedDict, total=False):
    """The state of the source; a key is absent while its value is unknown.

    Attributes:
        topic: The topic's name.
        topic_partitions: Number of its partitions; absent or 0 until the broker has responded.
        partitions: The partitions that this process reads.
        workers: The reading thread of each partition, counted from 0.
    """

    topic: str
    topic_partitions: int
    partitions: Sequence[int]
    workers: Mapping[int, int]


class OpenRows(Protocol):
    """A write queue, as the status port sees it."""

    @property
    def open_rows(self) -> int:
        """Rows that are not settled."""


@dataclass(frozen=True, slots=True)
class OutputView:
    """One output of the stream.

    Attributes:
        service: The service that takes the rows.
        rows: Its write queue.
        slots: Maximum number of requests in flight.
    """

    service: Service
    rows: OpenRows
    slots: int


@dataclass(frozen=True, slots=True)
class LaunchInfo:
    """The launch options of the process.

    Attributes:
        workers: Number of worker threads.
        process: Its number in the cluster, from 0.
        processes: Number of processes in the cluster.
        recovery_dir: Its recovery store, or None.
    """

    workers: int = 1
    process: int = 0
    processes: int = 1
    recovery_dir: str | None = None


def _none() -> Sequence[str]:
    return ()


def _no() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything that the status port reads.

    Attributes:
        settings_redacted: Every setting without secrets, by variable.
        services: Every service that the stream talks to.
        outputs: The outputs of a page, the store first.
        metrics: The metrics.
        stalls: The services that the stream waits for.
        tracker: The open records.
        liveness: Whether the workers make progress.
        batcher: The embedder's queue and endpoints.
        kafka_status: Returns the state of the source.
        version: The program's version.
        model: The model in use.
        started_at: When the process started (seconds since 1970).
        launch: The launch options.
        recent_events: The latest warnings, errors and dead letters.
        unanswered: The names of the services that have not responded yet.
        stopping: Whether the process is stopping.
    """

    settings_redacted: Mapping[str, str]
    services: Sequence[Service]
    outputs: Sequence[OutputView]
    metrics: Metrics
    stalls: Stalls
    tracker: OffsetTracker
    liveness: Liveness
    batcher: BatcherStatus
    kafka_status: Callable[[], KafkaStatus]
    version: str
    model: str
    started_at: float
    launch: LaunchInfo = field(default_factory=LaunchInfo)
    recent_events: RecentEvents = field(default_factory=RecentEvents)
    unanswered: Callable[[], Sequence[str]] = _none
    stopping: Callable[[], bool] = _no

    def service(self, name: str) -> Service:
        """Return the service of this name; if none is registered, a placeholder."""
        matching = (service for service in self.services if service.name == name)
        return next(matching, Service(name, name))
