from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.core.offset_tracker import Ledger
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
def test_the_ledger_is_a_table_of_open_records_and_the_outputs_they_wait_for(history):
    ledger = Ledger(max_pages=4, max_bytes=1000)
    waits_for: dict[tuple[int, int], int] = {}
    position: dict[int, int] = {}
    for step, partition, offset, outputs in history:
        place, it = (partition, offset), record(offset, partition)
        if step == "open":
            ledger.opened([it], outputs)
            waits_for.setdefault(place, outputs)
        elif step == "expect":
            ledger.expect(it, outputs)
            if place in waits_for:
                waits_for[place] = outputs
        elif step == "settle":
            left = waits_for.pop(place, 0) - 1
            if left > 0:
                waits_for[place] = left
            assert ledger.settled(it) == (left == 0)
        else:
            ledger.read_up_to(partition, offset)
            position[partition] = offset
        marks = {
            p: min((o for q, o in waits_for if q == p), default=position.get(p)) for p in range(3)
        }
        assert ledger.low_watermarks() == {p: m for p, m in marks.items() if m is not None}
        assert ledger.open_pages == len(waits_for)
        assert ledger.open_bytes == 10 * len(waits_for)
        assert ledger.has_room() == (len(waits_for) < 4)
        for p in range(3):
            assert ledger.open_in(p) == sum(1 for q, _ in waits_for if q == p)


def test_room_ends_at_the_limit_of_pages_or_of_bytes():
    by_pages, by_bytes = Ledger(max_pages=2), Ledger(max_bytes=25)
    for ledger in (by_pages, by_bytes):
        ledger.opened([record(0)])
        assert ledger.has_room()
        ledger.opened([record(1), record(2)])
        assert not ledger.has_room()
        for offset in range(2):
            ledger.settled(record(offset))
        assert ledger.has_room()


def test_one_record_larger_than_the_limit_of_bytes_can_be_read():
    ledger = Ledger(max_bytes=100)
    assert ledger.has_room()
    ledger.opened([record(0, size=1000)])
    assert not ledger.has_room()
    ledger.settled(record(0))
    assert ledger.has_room()


@pytest.mark.parametrize("order", [range(5), reversed(range(5)), (2, 0, 4, 1, 3)])
def test_the_low_watermark_passes_only_what_is_settled(order):
    ledger = Ledger()
    ledger.opened(record(offset) for offset in range(5))
    ledger.read_up_to(0, 5)
    settled: set[int] = set()
    for offset in order:
        ledger.settled(record(offset))
        settled.add(offset)
        assert ledger.low_watermarks()[0] == min(set(range(6)) - settled)


def test_alone_a_process_keeps_a_record_open_from_the_source_to_the_last_output():
    ledger = Ledger()
    ledger.opened([record(0)])
    ledger.departed([record(0)])
    ledger.arrived([record(0)], outputs=2)
    assert ledger.settled(record(0))
    assert ledger.open_pages == 0


def test_in_a_cluster_each_hop_is_a_life_of_its_own():
    reader, writer = Ledger(shared=True), Ledger(shared=True)
    reader.opened([record(0)])
    reader.departed([record(0)])
    assert reader.open_pages == 0
    writer.arrived([record(0)], outputs=2)
    writer.arrived([record(0)], outputs=2)  # the other output of the same row
    writer.expect(record(0), outputs=7)  # said elsewhere
    assert [writer.settled(record(0)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("shared", [True, False])
def test_each_output_that_resumes_with_a_record_is_waited_for(shared):
    ledger = Ledger(shared=shared)
    ledger.resumed([record(0), record(1)])
    ledger.resumed([record(0)])
    assert ledger.open_pages == 2
    assert [ledger.settled(record(0)) for _ in range(2)] == [False, True]
    assert ledger.settled(record(1))


def test_what_was_settled_leaves_nothing_behind():
    ledger = Ledger()
    for offset in range(10_000):
        ledger.opened([record(offset)])
        ledger.settled(record(offset))
    partition = ledger._partitions[0]
    assert (len(partition.entries), len(partition.heap)) == (0, 0)


def test_many_threads_may_open_and_settle_at_once():
    ledger = Ledger()

    def work(partition: int) -> None:
        for offset in range(500):
            ledger.opened([record(offset, partition)], outputs=2)
            ledger.low_watermarks()
            ledger.settled(record(offset, partition))
            assert ledger.settled(record(offset, partition))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (ledger.open_pages, ledger.open_bytes) == (0, 0)
