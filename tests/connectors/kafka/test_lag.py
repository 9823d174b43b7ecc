from __future__ import annotations

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import Record
from connectors.kafka.lag import Lag
from connectors.observability.metrics import Metrics
from tests.connectors.core.test_offset_tracker import record


class Member:
    """One process of a cluster."""

    def __init__(self) -> None:
        self.tracker, self.metrics = OffsetTracker(shared=True), Metrics()
        self.lag = Lag(self.tracker, self.metrics)

    def lag_sum(self, end: int) -> float:
        """Return the sum of its gauges if the topic's partition 0 ends at `end`."""
        self.lag.measure(dict.fromkeys(self.lag.partitions(), end))
        return sum(s.value for m in self.metrics.lag.collect() for s in m.samples)


def hand_over(reader: Member, writer: Member, moved: Record) -> None:
    reader.tracker.hand_over([moved])
    writer.tracker.receive([moved])


def test_a_record_counts_only_in_the_process_where_it_is_open():
    reader, writer = Member(), Member()
    reader.lag.read_up_to(0, 0)
    assert (reader.lag_sum(10), writer.lag_sum(10)) == (10, 0)
    records = [record(offset) for offset in range(3)]
    reader.tracker.open(records)
    reader.lag.read_up_to(0, 3)
    assert (reader.lag_sum(10), writer.lag_sum(10)) == (10, 0)
    for moved in records:
        hand_over(reader, writer, moved)
    assert (reader.lag_sum(10), writer.lag_sum(10)) == (7, 3)
    for done in records:
        writer.tracker.settle(done)
    assert (reader.lag_sum(10), writer.lag_sum(10)) == (7, 0)
