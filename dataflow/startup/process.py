"""The components that each process of the stream has exactly once."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectors.core.offset_tracker import OffsetTracker
from connectors.http.client import HttpClient
from connectors.observability.liveness import Liveness
from connectors.observability.metrics import Metrics
from connectors.observability.recent_events import RecentEvents
from connectors.observability.stalls import Stalls
from connectors.runtime.event_loop import EventLoop
from connectors.runtime.shutdown import Shutdown
from connectors.runtime.tuning.timer_slack import TimerSlack
from dataflow.config.settings import Settings
from dataflow.startup.launch import Launch


@dataclass(slots=True)
class Process:
    """The components that a process has exactly once.

    Attributes:
        settings: The settings.
        launch: The command line.
        recent_events: The latest warnings and errors, for the status page.
        http: The HTTP client.
        metrics: The metrics.
        shutdown: Stops the process.
        liveness: Whether the worker threads make progress.
        stalls: The services that the stream waits for.
        event_loop: The event loop.
        tracker: The offsets of open records.
        slack: The timer slack of the worker threads.
    """

    settings: Settings
    launch: Launch
    recent_events: RecentEvents
    http: HttpClient
    metrics: Metrics
    shutdown: Shutdown = field(default_factory=Shutdown)
    liveness: Liveness = field(default_factory=Liveness)
    stalls: Stalls = field(init=False)
    event_loop: EventLoop = field(init=False)
    tracker: OffsetTracker = field(init=False)
    slack: TimerSlack = field(init=False)

    def __post_init__(self) -> None:
        self.stalls = Stalls(self.metrics)
        self.event_loop = EventLoop(lambda error: self.shutdown.fatal(error, "event loop"))
        self.tracker = OffsetTracker(shared=self.launch.is_cluster)
        self.slack = TimerSlack(lambda: self.tracker.open_pages)
