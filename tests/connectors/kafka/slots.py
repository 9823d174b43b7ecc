"""How tests read a topic: the source's slots, turned by the test as a worker would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import Record
from connectors.delivery.backpressure import Backpressure
from connectors.kafka.config import KafkaConfig
from connectors.kafka.metadata_monitor import MetadataMonitor
from connectors.kafka.source import PagesSource, Slot, SlotState, SourceContext
from connectors.kafka.topic_validation import TopicValidation, record_in
from connectors.observability.liveness import Liveness
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stall, Stalls
from connectors.runtime.shutdown import Shutdown
from connectors.runtime.tuning.epoch_schedule import EpochSchedule
from connectors.runtime.tuning.timer_slack import TimerSlack
from dataflow.events.decoder import decode
from tests.eventually import eventually

TOPIC = "cdc.pages"
MOCK_OPTIONS = {"fetch.wait.max.ms": 5}


class Process:
    """What one process reads: its slots, its tracker, what it says."""

    def __init__(
        self,
        broker: str,
        *,
        topic: str = TOPIC,
        states: dict[str, SlotState] | None = None,
        proven: bool = True,
        tracker: OffsetTracker | None = None,
        limits: dict[str, int] | None = None,
        options: dict[str, Any] | None = None,
        **config: Any,
    ) -> None:
        self.config = KafkaConfig(
            broker, topic=topic, options=MOCK_OPTIONS if options is None else options, **config
        )
        self.metrics = Metrics()
        self.stalls = Stalls(self.metrics)
        self.shutdown = Shutdown(watchdog_s=3600)
        self.monitor = MetadataMonitor(self.config, self.stalls, self.shutdown)
        self.tracker = tracker or OffsetTracker()
        self.validation = TopicValidation(decode)
        if proven:
            self.validation.accept()
        self.reading = SourceContext(
            self.config,
            self.monitor,
            self.tracker,
            Backpressure(self.tracker, lambda: 0, self.shutdown.stopping, **limits or {}),
            Liveness(),
            self.metrics,
            self.shutdown,
            assigned={},
            epoch=EpochSchedule(10.0),
            slack=TimerSlack(),
        )
        self.source = PagesSource(self.reading, self.validation)
        states = states or {}
        self.slots: dict[str, Slot] = {
            name: self.source.build_part("in", name, states.get(name))
            for name in self.source.list_parts()
        }
        self.records: list[Record] = []

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown.stop()
        for slot in self.slots.values():
            slot.close()

    def turn(self) -> list[Record]:
        """One turn of the worker: every slot is asked once."""
        came = [record_in(item) for slot in self.slots.values() for item in slot.next_batch()]
        self.records += came
        return came

    def read(self, count: int, within_s: float = 20.0) -> list[Record]:
        """Turn until so many records have come, in all."""
        eventually(lambda: self.turn() is None or len(self.records) >= count, within_s)
        return self.records

    def turn_until(self, found: Callable[[], Any], within_s: float = 20.0) -> Any:
        return eventually(lambda: (self.turn(), found())[1], within_s)

    def settle(self, records: Iterable[Record] | None = None) -> None:
        for record in self.records if records is None else records:
            self.tracker.settled(record)

    def states(self) -> dict[str, SlotState]:
        return {name: slot.snapshot() for name, slot in self.slots.items()}

    def stall(self) -> Stall | None:
        return next((s for s in self.stalls.current() if s.service == "kafka"), None)

    def lag(self) -> dict[str, float]:
        samples = next(iter(self.metrics.lag.collect())).samples
        return {sample.labels["partition"]: sample.value for sample in samples}

    @property
    def resets(self) -> float:
        return self.metrics.offset_resets._value.get()

    def places(self) -> list[tuple[int, int]]:
        """Partition and offset of everything read, in order of both."""
        return sorted((record.partition, record.offset) for record in self.records)
