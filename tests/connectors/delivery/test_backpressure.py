from __future__ import annotations

import threading
import time

import pytest

from connectors.core.offset_tracker import OffsetTracker
from connectors.delivery.backpressure import MAX_WAITING_PAGES, Backpressure
from tests.connectors.core.test_offset_tracker import record
from tests.connectors.delivery.manual_writer import in_thread
from tests.eventually import eventually


class Process:
    """One process, and how many pages wait for its embedder."""

    def __init__(self, *, shared: bool = False, **limits: int) -> None:
        self.waiting = 0
        self.counts = 0
        self.stopping = threading.Event()
        self.tracker = OffsetTracker(shared=shared)
        self.backpressure = Backpressure(self.tracker, self.count, self.stopping, **limits)

    def count(self) -> int:
        self.counts += 1
        return self.waiting

    @property
    def may_read(self) -> bool:
        return self.backpressure.records_to_read() > 0


def test_reading_stops_at_the_limit_of_open_pages_or_of_open_bytes():
    for process in (Process(max_open_pages=2), Process(max_open_bytes=25)):
        process.tracker.open([record(0)])
        assert process.may_read
        process.tracker.open([record(1), record(2)])
        assert not process.may_read
        for offset in range(2):
            process.tracker.settle(record(offset))
        assert process.may_read


def test_one_record_larger_than_the_limit_of_bytes_can_be_read():
    process = Process(max_open_bytes=100)
    assert process.may_read
    process.tracker.open([record(0, size=1000)])
    assert not process.may_read
    process.tracker.settle(record(0))
    assert process.may_read


@pytest.mark.parametrize("limit", [{"epoch_records": 3}, {"epoch_bytes": 30}])
def test_a_process_of_a_cluster_reads_only_its_share_of_an_epoch(limit):
    process, alone = Process(shared=True, **limit), Process(**limit)
    for one in (process, alone):
        one.backpressure.records_read(0, 2, 20)
        assert one.may_read
        one.backpressure.records_read(1, 1, 10)
    assert alone.may_read
    assert not process.may_read
    process.backpressure.epoch_ended(1)
    assert process.may_read


def test_an_epoch_ends_at_once_while_few_pages_wait():
    process = Process(shared=True)
    process.waiting = MAX_WAITING_PAGES
    began = time.monotonic()
    process.backpressure.hold_epoch()
    assert time.monotonic() - began < 1


def test_one_process_alone_holds_no_epoch():
    process = Process()
    process.waiting = MAX_WAITING_PAGES + 1
    process.backpressure.hold_epoch()
    assert process.counts == 0


@pytest.mark.parametrize("end", ["fewer", "stop"])
def test_an_epoch_stays_open_until_fewer_pages_wait_or_the_process_stops(end):
    process = Process(shared=True)
    process.waiting = MAX_WAITING_PAGES + 1
    holding = in_thread(process.backpressure.hold_epoch)
    eventually(lambda: process.counts > 1)
    assert holding.is_alive()
    if end == "fewer":
        process.waiting = MAX_WAITING_PAGES
    else:
        process.stopping.set()
    holding.join(10)
    assert not holding.is_alive()
