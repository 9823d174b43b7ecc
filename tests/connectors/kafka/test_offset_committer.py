from __future__ import annotations

from connectors.kafka.offset_committer import OffsetCommitter
from gibsey_embedder.fakes.kafka import MockKafka
from tests.connectors.kafka.slots import TOPIC, Process
from tests.eventually import eventually

GROUP = "gibsey-embedder"


def produce(kafka: MockKafka, count: int) -> None:
    for number in range(count):
        kafka.produce(TOPIC, str(number), b"{}", partition=0)
    kafka.flush()


def committer(process: Process, stored: set[int] | None = None) -> OffsetCommitter:
    return OffsetCommitter(
        process.config, process.tracker, process.monitor.errors, process.shutdown, stored
    )


def test_settled_offsets_are_committed_each_second(mock_kafka):
    produce(mock_kafka, 10)
    with Process(mock_kafka.broker) as process:
        committer(process).start()
        process.read(10)
        process.settle(r for r in process.records if r.offset not in (4, 8))
        eventually(lambda: mock_kafka.committed(TOPIC, GROUP).get(0) == 4)
        process.settle()
        eventually(lambda: mock_kafka.committed(TOPIC, GROUP).get(0) == 10)


def test_the_last_position_is_committed_at_the_end(mock_kafka):
    produce(mock_kafka, 10)
    with Process(mock_kafka.broker) as process:
        committer(process).start()
        process.read(10)
        process.settle()
        process.shutdown.end()
        assert mock_kafka.committed(TOPIC, GROUP)[0] == 10


def test_a_restart_without_a_store_continues_at_the_committed_offset(mock_kafka):
    produce(mock_kafka, 10)
    with Process(mock_kafka.broker) as first:
        offsets = committer(first)
        offsets.start()
        first.read(10)
        first.settle(r for r in first.records if r.offset != 6)
        offsets.close()
    with Process(mock_kafka.broker) as second:
        second.read(4)
        assert second.offsets() == [(0, 6), (0, 7), (0, 8), (0, 9)]


def test_with_a_store_an_offset_is_committed_only_after_the_store_has_it(mock_kafka):
    produce(mock_kafka, 10)
    with Process(mock_kafka.broker) as process:
        offsets = committer(process, process.context.stored)
        process.read(10)
        process.settle()
        offsets.close()
        process.states()  # an epoch ends and is not stored yet
        offsets.close()
        assert mock_kafka.committed(TOPIC, GROUP) == {}
        process.poll()  # Bytewax polls again when it is stored
        offsets.close()
        assert mock_kafka.committed(TOPIC, GROUP)[0] == 10


def test_a_partition_in_the_store_is_committed_at_once(mock_kafka):
    produce(mock_kafka, 10)
    with Process(mock_kafka.broker) as first:
        first.read(5)
        states = first.states()
    with Process(mock_kafka.broker, states=states) as second:
        second.poll_until(lambda: 0 in second.tracker.low_watermarks())
        committer(second, second.context.stored).close()
        assert mock_kafka.committed(TOPIC, GROUP)[0] == 10


def test_a_broker_that_is_down_delays_neither_the_stream_nor_its_end(mock_kafka):
    produce(mock_kafka, 10)
    with Process(mock_kafka.broker) as process:
        offsets = committer(process)
        offsets.start()
        process.read(10)
        mock_kafka.down()
        process.settle()
        offsets.close()
        mock_kafka.up()
