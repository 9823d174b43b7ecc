from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import Record

partitions, offsets = st.integers(0, 2), st.integers(0, 7)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), partitions, offsets, st.integers(1, 3)),
        st.tuples(st.just("expect"), partitions, offsets, st.integers(1, 3)),
        st.tuples(st.just("settle"), partitions, offsets, st.just(0)),
        st.tuples(st.just("read"), partitions, offsets, st.just(0)),
    ),
    max_size=60,
)


def record(offset: int, partition: int = 0, size: int = 10) -> Record:
    return Record("cdc.pages", partition, offset, 1, None, b"x" * size)


@given(steps)
def test_the_tracker_knows_each_open_record_and_how_many_outputs_it_waits_for(history):
    tracker = OffsetTracker()
    waits_for: dict[tuple[int, int], int] = {}
    position: dict[int, int] = {}
    for step, partition, offset, outputs in history:
        key, it = (partition, offset), record(offset, partition)
        if step == "open":
            tracker.open([it], outputs)
            waits_for.setdefault(key, outputs)
        elif step == "expect":
            tracker.expect(it, outputs)
            if key in waits_for:
                waits_for[key] = outputs
        elif step == "settle":
            left = waits_for.pop(key, 0) - 1
            if left > 0:
                waits_for[key] = left
            assert tracker.settle(it) == (left == 0)
        else:
            tracker.read_up_to(partition, offset)
            position[partition] = offset
        marks = {
            p: min((o for q, o in waits_for if q == p), default=position.get(p)) for p in range(3)
        }
        assert tracker.low_watermarks() == {p: m for p, m in marks.items() if m is not None}
        assert tracker.open_pages == len(waits_for)
        assert tracker.open_bytes == 10 * len(waits_for)
        for p in range(3):
            assert tracker.open_in(p) == sum(1 for q, _ in waits_for if q == p)


@pytest.mark.parametrize("order", [range(5), reversed(range(5)), (2, 0, 4, 1, 3)])
def test_the_low_watermark_passes_settled_records_only(order):
    tracker = OffsetTracker()
    tracker.open(record(offset) for offset in range(5))
    tracker.read_up_to(0, 5)
    settled: set[int] = set()
    for offset in order:
        tracker.settle(record(offset))
        settled.add(offset)
        assert tracker.low_watermarks()[0] == min(set(range(6)) - settled)


def test_in_one_process_a_record_is_open_from_the_source_to_the_last_output():
    tracker = OffsetTracker()
    tracker.open([record(0)])
    tracker.hand_over([record(0)])
    tracker.receive([record(0)], outputs=2)
    assert tracker.settle(record(0))
    assert tracker.open_pages == 0


def test_in_a_cluster_a_record_is_open_in_the_process_that_holds_it():
    reader, writer = OffsetTracker(shared=True), OffsetTracker(shared=True)
    reader.open([record(0)])
    reader.hand_over([record(0)])
    assert reader.open_pages == 0
    writer.receive([record(0)], outputs=2)
    writer.receive([record(0)], outputs=2)  # the other output of the same row
    writer.expect(record(0), outputs=7)  # no effect: `receive` sets it
    assert [writer.settle(record(0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("shared", [True, False])
def test_a_resumed_record_waits_for_each_output_that_has_it(shared):
    tracker = OffsetTracker(shared=shared)
    tracker.resume([record(0), record(1)])
    tracker.resume([record(0)])
    assert tracker.open_pages == 2
    assert [tracker.settle(record(0)) for _ in range(2)] == [False, True]
    assert tracker.settle(record(1))


def test_a_settled_record_uses_no_memory():
    tracker = OffsetTracker()
    for offset in range(10_000):
        tracker.open([record(offset)])
        tracker.settle(record(offset))
    partition = tracker._partitions[0]
    assert (len(partition.records), len(partition.heap)) == (0, 0)


def test_many_threads_may_open_and_settle_at_the_same_time():
    tracker = OffsetTracker()

    def work(partition: int) -> None:
        for offset in range(500):
            tracker.open([record(offset, partition)], outputs=2)
            tracker.low_watermarks()
            tracker.settle(record(offset, partition))
            assert tracker.settle(record(offset, partition))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (tracker.open_pages, tracker.open_bytes) == (0, 0)
