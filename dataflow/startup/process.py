"""What a process of the stream has one of, whatever it talks to."""

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
    """What a process has one of, whatever it talks to.

    Attributes:
        settings: The settings in force.
        started: How the process was started.
        metrics: What is counted.
        recent: The latest warnings and errors, for the status page.
        shutdown: Ends the process.
        stalls: What it waits for.
        event_loop: Its event loop.
        http: Its HTTP client.
        tracker: Its open records.
        liveness: Whether its workers turn.
        slack: How exactly they are woken.
    """

    settings: Settings
    started: Launch
    recent_events: RecentEvents
    metrics: Metrics = field(default_factory=Metrics)
    shutdown: Shutdown = field(default_factory=Shutdown)
    liveness: Liveness = field(default_factory=Liveness)
    stalls: Stalls = field(init=False)
    event_loop: EventLoop = field(init=False)
    http: HttpClient = field(init=False)
    tracker: OffsetTracker = field(init=False)
    slack: TimerSlack = field(default_factory=TimerSlack)

    def __post_init__(self) -> None:
        self.stalls = Stalls(self.metrics)
        self.event_loop = EventLoop(lambda error: self.shutdown.fatal(error, "event loop"))
        self.http = HttpClient(self.settings.http_ca_file)
        self.tracker = OffsetTracker(shared=self.started.is_cluster)
