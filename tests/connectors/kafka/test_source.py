from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, cluster_main, run_main

from connectors.core.offset_tracker import OffsetTracker
from connectors.delivery.backpressure import READ_RECORDS
from connectors.kafka.source import SLOTS, STATE_VERSION, PagesSource
from connectors.runtime.tuning import timer_slack
from tests.connectors.kafka.slots import FRAME, GOOD, TOPIC, Process, commit, fill
from tests.eventually import eventually


def test_all_partitions_are_read_in_order_with_key_value_and_time(mock_kafka):
    for partition in range(3):
        fill(mock_kafka, 500, partition=partition)
    with Process(mock_kafka.broker) as process:
        records = process.read(1500)
        assert process.offsets() == [(p, o) for p in range(3) for o in range(500)]
        for partition in range(3):
            offsets = [r.offset for r in records if r.partition == partition]
            assert offsets == sorted(offsets)
        assert records[0].value == GOOD
        assert records[0].key == str(records[0].offset).encode()
        assert abs(records[0].timestamp_ms - time.time() * 1000) < 60_000
        assert records[0].era == 0


def test_a_slot_without_partitions_opens_no_consumer_and_sleeps(mock_kafka):
    with Process(mock_kafka.broker) as process:
        process.poll_until(lambda: process.context.assigned)
        idle = process.slots["slot-05"]
        assert idle._consumer._consumer is None
        assert idle.next_awake() is not None
        assert process.slots["slot-00"]._consumer._consumer is not None


@pytest.mark.parametrize(
    ("silence_s", "pause_s"), [(0.0, 0.0003), (0.3, None), (4.0, None), (7.0, 0.07), (60.0, 0.25)]
)
def test_a_slot_is_polled_less_often_the_longer_it_has_read_nothing(
    mock_kafka, monkeypatch, silence_s, pause_s
):
    fill(mock_kafka, 3)
    with Process(mock_kafka.broker) as process:
        slot = process.slots["slot-00"]
        process.read(3)
        assert slot.next_awake() is None  # with open pages, after Bytewax's own pause
        process.settle()
        monkeypatch.setattr(slot._schedule, "_read_at", time.monotonic() - silence_s)
        awake = slot.next_awake()
        if pause_s is None:
            assert awake is None
        else:
            pause = awake - datetime.now(timezone.utc)
            assert pause_s - 0.05 < pause.total_seconds() < pause_s + 0.01


def test_workers_have_timer_slack_only_while_nothing_is_read(mock_kafka, monkeypatch):
    slacks: list[int] = []
    monkeypatch.setattr(timer_slack, "_set_slack", slacks.append)
    with Process(mock_kafka.broker) as process:
        slot = process.slots["slot-00"]
        slot.next_awake()
        assert slacks == [timer_slack._USUAL_NS]
        slacks.clear()
        monkeypatch.setattr(process.context.slack, "_worked_at", time.monotonic() - 60)
        slot.next_awake()
        assert slacks == [timer_slack._IDLE_NS]
        fill(mock_kafka, 1)
        process.read(1)
        slot.next_awake()
        assert slacks == [timer_slack._IDLE_NS, timer_slack._USUAL_NS]


def test_an_incompatible_snapshot_is_rejected_with_the_remedy(mock_kafka):
    errors: list[str] = []
    with Process(mock_kafka.broker) as process:
        process.shutdown.fatal = lambda error, where: errors.append(str(error))
        state: Any = (STATE_VERSION, SLOTS + 1, "", False, {})
        process.source.build_part("in", "slot-00", state)
    assert "13 reader slots" in errors[0]
    assert "remove the store" in errors[0]


def test_reading_pauses_while_too_many_pages_are_open(mock_kafka):
    fill(mock_kafka, 3000)
    with Process(mock_kafka.broker, limits={"max_open_pages": 300}) as process:
        process.read(300)
        for _ in range(50):
            process.poll()
            time.sleep(0.001)
        assert 300 <= len(process.records) < 300 + READ_RECORDS
        assert process.tracker.open_pages == len(process.records)
        while len(process.records) < 3000:
            process.settle(process.poll())
            process.settle()


def test_a_read_is_bounded_in_records_and_bytes(mock_kafka):
    fill(mock_kafka, READ_RECORDS + 600)
    fill(mock_kafka, 5, partition=1, value=b"x" * 900_000)
    with Process(mock_kafka.broker) as process:
        sizes = []
        process.poll_until(lambda: len(process.records) >= READ_RECORDS + 605)
        with Process(mock_kafka.broker) as again:
            while len(again.records) < READ_RECORDS + 605:
                for slot in again.slots.values():
                    batch = list(slot.next_batch())
                    sizes.append((len(batch), sum(r.size_bytes for r in batch)))
                    again.records += batch
    assert max(count for count, _ in sizes) <= READ_RECORDS
    assert max(size for _, size in sizes) < 6 * 1024 * 1024


def test_in_a_cluster_reading_pauses_until_the_epoch_ends(mock_kafka):
    fill(mock_kafka, 2 * READ_RECORDS)
    tracker = OffsetTracker(shared=True)
    with Process(mock_kafka.broker, tracker=tracker, limits={"epoch_records": 100}) as process:
        process.read(100)
        tracker.hand_over(process.records)
        before = len(process.records)
        for _ in range(50):
            assert process.poll() == []
        process.states()
        process.poll_until(lambda: len(process.records) > before)


def test_frames_are_neither_emitted_nor_in_the_snapshot_until_a_json_event_arrives(mock_kafka):
    fill(mock_kafka, 3, value=FRAME)
    with Process(mock_kafka.broker, is_valid=False) as process:
        stall = process.poll_until(process.stall)
        assert "schema-registry" in stall.reason
        assert process.records == []
        assert process.states()["slot-00"][4] == {}
        assert process.tracker.open_pages == 0
        fill(mock_kafka, 1, partition=1, value=GOOD)
        process.read(4)
        assert process.offsets() == [(0, 0), (0, 1), (0, 2), (1, 0)]
        assert process.states()["slot-00"][4] == {0: (3, 0)}
        process.poll_until(lambda: process.stall() is None)


def test_a_topic_of_undecodable_events_stalls_before_any_of_them_is_emitted(mock_kafka):
    fill(mock_kafka, 500, value=b"<xml/>")
    with Process(mock_kafka.broker, is_valid=False) as process:
        stall = process.poll_until(process.stall)
        assert "none of the first 100 events" in stall.reason
        assert process.records == []
        assert process.states()["slot-00"][4] == {}
        fill(mock_kafka, 1, partition=1, value=GOOD)
        process.read(501)


def test_a_few_undecodable_events_are_emitted_after_a_moment(mock_kafka):
    fill(mock_kafka, 5, value=b"<xml/>")
    with Process(mock_kafka.broker, is_valid=False) as process:
        process.read(5)
        assert process.stall() is None


def test_tombstones_are_emitted_before_the_topic_is_valid(mock_kafka):
    fill(mock_kafka, 250, value=None)
    with Process(mock_kafka.broker, is_valid=False) as process:
        process.read(250)


def test_a_valid_topic_stays_valid_after_a_resume(mock_kafka):
    fill(mock_kafka, 1)
    with Process(mock_kafka.broker) as first:
        first.read(1)
        states = first.states()
    fill(mock_kafka, 300, value=b"<xml/>")
    with Process(mock_kafka.broker, states=states, is_valid=False) as second:
        second.read(300)


def test_the_source_waits_for_a_missing_topic(mock_kafka):
    with Process(mock_kafka.broker, topic="late.pages") as process:
        stall = process.poll_until(process.stall)
        assert stall.reason == "there is no topic late.pages"
        assert "KAFKA_TOPIC" in stall.remedy
        mock_kafka.create_topic("late.pages", 2)
        mock_kafka.produce("late.pages", "k", GOOD, partition=1)
        process.read(1)
        process.poll_until(lambda: process.stall() is None)


def test_the_source_waits_for_a_broker_that_is_down_and_continues(mock_kafka):
    fill(mock_kafka, 10)
    with Process(mock_kafka.broker) as process:
        process.read(10)
        mock_kafka.down()
        process.poll_until(process.stall, within_s=60)
        mock_kafka.up()
        fill(mock_kafka, 10)
        process.read(20)
        assert process.offsets() == [(0, n) for n in range(20)]
        process.poll_until(lambda: process.stall() is None)


def test_a_missing_certificate_file_is_reported(mock_kafka, tmp_path):
    missing = tmp_path / "ca.pem"
    with Process(mock_kafka.broker, tls=True, ca_file=str(missing)) as process:
        stall = process.poll_until(process.stall)
        assert str(missing) in stall.reason
        assert "KAFKA_CA_FILE" in stall.remedy


def test_lag_counts_unread_and_open_records(mock_kafka):
    fill(mock_kafka, 20)
    with Process(mock_kafka.broker, limits={"max_open_pages": 20}) as process:
        process.read(20)
        process.poll_until(lambda: process.lag().get("0") == 20)
        fill(mock_kafka, 15)
        process.poll_until(lambda: process.lag().get("0") == 35)
        process.settle()
        process.poll_until(lambda: process.settle() or process.lag().get("0") == 0)
        assert process.lag() == {"0": 0, "1": 0, "2": 0}


def test_lag_is_known_after_a_resume_that_cannot_read(mock_kafka):
    fill(mock_kafka, 30)
    state = (STATE_VERSION, SLOTS, "", True, {0: (10, 0)})
    with Process(
        mock_kafka.broker, states={"slot-00": state}, limits={"max_open_pages": 0}
    ) as process:
        process.poll_until(lambda: process.lag().get("0") == 20)
        assert not process.records


def test_lag_is_known_for_partitions_without_a_read_record(mock_kafka):
    for partition in range(3):
        fill(mock_kafka, 30, partition=partition)
    with Process(mock_kafka.broker, limits={"max_open_pages": 0}) as process:
        commit(mock_kafka, process.config.group, {1: 25})
        process.poll_until(lambda: process.lag() == {"0": 30, "1": 5, "2": 30})
        assert not process.records


def test_an_empty_partition_has_a_position_and_a_low_watermark(mock_kafka):
    with Process(mock_kafka.broker) as process:
        process.poll_until(lambda: process.tracker.low_watermarks() == {0: 0, 1: 0, 2: 0})


@pytest.mark.parametrize(
    ("header", "replay_of"),
    [
        (b"cdc.pages:2:17", "cdc.pages:2:17"),
        (b"with:colon:2:17", "with:colon:2:17"),
        (b"nonsense", None),
        (b"cdc.pages:two:17", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_replayed_record_knows_its_origin(mock_kafka, header, replay_of):
    mock_kafka.produce(TOPIC, "k", GOOD, headers=[("other", b"x"), ("gibsey-replay-of", header)])
    mock_kafka.flush()
    with Process(mock_kafka.broker) as process:
        assert process.read(1)[0].replay_of == replay_of


@pytest.mark.parametrize("workers", [1, 4])
def test_a_flow_reads_everything_and_ends_at_a_stop(mock_kafka, workers):
    for partition in range(3):
        fill(mock_kafka, 400, partition=partition)
    with Process(mock_kafka.broker) as process:
        out: list[tuple[int, int]] = []
        flow = Dataflow("pages")
        records = op.input("kafka", flow, PagesSource(process.context, process.validation))
        offsets = op.map("offset", records, lambda r: (r.partition, r.offset))
        op.output("out", offsets, TestingSink(out))

        def stop() -> None:
            eventually(lambda: len(out) >= 1200)
            process.shutdown.stopping.set()

        threading.Thread(target=stop).start()
        began = time.monotonic()
        if workers == 1:
            run_main(flow)
        else:
            cluster_main(flow, [], 0, worker_count_per_proc=workers)
        assert sorted(out) == [(p, o) for p in range(3) for o in range(400)]
        assert time.monotonic() - began < 20
