"""How tests read a topic: they poll the source's slots as a worker does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, TopicPartition

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
from gibsey_embedder.fakes.kafka import MockKafka
from tests.eventually import eventually

TOPIC = "cdc.pages"
MOCK_OPTIONS = {"fetch.wait.max.ms": 5}
GOOD = b'{"page_id":"1","body":"x","op":"c"}'
FRAME = b"\0\0\0\0\1avro"


def fill(kafka: MockKafka, count: int, *, partition: int = 0, value: bytes | None = GOOD) -> None:
    for number in range(count):
        kafka.produce(TOPIC, str(number), value, partition=partition)
    kafka.flush()


def commit(kafka: MockKafka, group: str, offsets: dict[int, int]) -> None:
    consumer = Consumer({"bootstrap.servers": kafka.broker, "group.id": group, "log_level": 0})
    partitions = [TopicPartition(TOPIC, p, offset) for p, offset in offsets.items()]
    consumer.commit(offsets=partitions, asynchronous=False)
    consumer.close()


class Process:
    """One process that reads the topic, with its slots, tracker, metrics and stalls."""

    def __init__(
        self,
        broker: str,
        *,
        topic: str = TOPIC,
        states: dict[str, SlotState] | None = None,
        is_valid: bool = True,
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
        if is_valid:
            self.validation.accept()
        self.context = SourceContext(
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
        self.source = PagesSource(self.context, self.validation)
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

    def poll(self) -> list[Record]:
        """Poll every slot once, as a worker does."""
        records = [record_in(item) for slot in self.slots.values() for item in slot.next_batch()]
        self.records += records
        return records

    def read(self, count: int, within_s: float = 20.0) -> list[Record]:
        """Poll until this many records are read in all."""
        eventually(lambda: self.poll() is None or len(self.records) >= count, within_s)
        return self.records

    def poll_until(self, condition: Callable[[], Any], within_s: float = 20.0) -> Any:
        return eventually(lambda: (self.poll(), condition())[1], within_s)

    def settle(self, records: Iterable[Record] | None = None) -> None:
        for record in self.records if records is None else records:
            self.tracker.settle(record)

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

    def offsets(self) -> list[tuple[int, int]]:
        """Return partition and offset of every record read, sorted."""
        return sorted((record.partition, record.offset) for record in self.records)
