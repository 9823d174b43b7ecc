from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.core.buckets import BUCKET_KEYS
from connectors.core.errors import Rejection
from connectors.delivery.write_queue import BACKLOG_ROWS
from tests.connectors.delivery.manual_writer import NO, Harness, ManualWriter, Row, in_thread, rows
from tests.eventually import eventually


def test_rows_are_written_and_settled(open_harness):
    writer = ManualWriter()
    harness = open_harness(writer)
    harness.write_queue.put("00", rows("a", "b"))
    writer.respond(0)
    writer.respond(1)
    harness.write_queue.wait_settled("00")
    assert [row.page for row, _ in harness.ended] == ["a", "b"]
    assert harness.write_queue.open_rows == 0


def test_unsettled_rows_are_known_by_bucket_and_in_order(open_harness):
    writer = ManualWriter(concurrency=2)
    harness = open_harness(writer)
    harness.write_queue.put("00", rows(*"abc"))
    harness.write_queue.put("01", rows("d"))
    assert [row.page for row in harness.write_queue.unsettled("00")] == ["a", "b", "c"]
    writer.respond(1)
    eventually(lambda: [row.page for row in harness.write_queue.unsettled("00")] == ["a", "c"])
    assert harness.write_queue.unsettled("01") == rows("d")
    assert harness.write_queue.unsettled("02") == []


def test_as_many_requests_are_in_flight_as_the_writer_allows(open_harness):
    writer = ManualWriter(concurrency=3)
    harness = open_harness(writer)
    harness.write_queue.put("00", rows(*"abcde"))
    eventually(lambda: len(writer.calls) == 3)
    harness.settle()
    assert len(writer.calls) == 3
    writer.respond(1)
    eventually(lambda: len(writer.calls) == 4)


def test_the_queue_has_a_backlog_if_more_rows_wait_than_the_next_requests_take(open_harness):
    writer = ManualWriter(rows_per_request=2, concurrency=3)
    harness = open_harness(writer)
    in_flight = waiting = 2 * 3
    harness.write_queue.put("00", rows(*map(str, range(in_flight + waiting + BACKLOG_ROWS))))
    eventually(lambda: len(writer.calls) == 3)
    harness.settle()
    assert harness.write_queue.has_backlog
    writer.respond(0)
    eventually(lambda: len(writer.calls) == 4)
    assert not harness.write_queue.has_backlog


def test_waiting_rows_share_requests_up_to_the_writer_s_limit(open_harness):
    writer = ManualWriter(rows_per_request=3, concurrency=1)
    harness = open_harness(writer)
    harness.write_queue.put("00", rows("a"))
    eventually(lambda: writer.calls)
    harness.write_queue.put("00", rows(*"bcdef"))
    writer.respond(0)
    writer.respond(1)
    writer.respond(2)
    harness.write_queue.wait_settled("00")
    assert [[row.page for row in batch] for batch in writer.batches] == [
        ["a"],
        ["b", "c", "d"],
        ["e", "f"],
    ]


def test_a_page_never_has_two_rows_in_flight(open_harness):
    writer = ManualWriter()
    harness = open_harness(writer)
    harness.write_queue.put("00", [Row("p", 1)])
    eventually(lambda: writer.calls)
    harness.write_queue.put("00", [Row("p", 2), Row("q", 1)])
    eventually(lambda: len(writer.calls) == 2)
    assert writer.batches[1] == [Row("q", 1)]
    writer.respond(0)
    writer.respond(2)
    writer.respond(1)
    harness.write_queue.wait_settled("00")
    assert writer.batches[2] == [Row("p", 2)]


def test_a_newer_row_replaces_one_that_waits(open_harness):
    writer = ManualWriter(concurrency=1)
    harness = open_harness(writer)
    harness.write_queue.put("00", [Row("x", 0)])
    eventually(lambda: writer.calls)
    harness.write_queue.put("00", [Row("p", 1), Row("q", 1), Row("x", 1), Row("p", 2), Row("x", 2)])
    for number in range(4):
        writer.respond(number)
    harness.write_queue.wait_settled("00")
    assert writer.batches == [[Row("x", 0)], [Row("p", 2)], [Row("q", 1)], [Row("x", 2)]]
    assert Counter(row for row, _ in harness.ended) == Counter(
        [Row("x", 0), Row("p", 1), Row("q", 1), Row("x", 1), Row("p", 2), Row("x", 2)]
    )


def test_wait_settled_returns_when_all_rows_of_the_bucket_are_acknowledged(open_harness):
    writer = ManualWriter()
    harness = open_harness(writer)
    harness.write_queue.put("00", rows("a", "b"))
    harness.write_queue.put("01", rows("c"))
    writer.respond(2)
    harness.write_queue.wait_settled("01")
    harness.write_queue.wait_settled("02")
    waiting = in_thread(harness.write_queue.wait_settled, "00")
    writer.respond(0)
    eventually(lambda: len(harness.ended) == 2)
    assert waiting.is_alive()
    writer.respond(1)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_rejected_row_is_open_until_its_dead_letter_is_confirmed(open_harness):
    writer = ManualWriter(rows_per_request=2)
    harness = open_harness(writer)
    harness.confirmed.clear()
    harness.write_queue.put("00", rows("a", "b"))
    writer.respond(0, {1: NO})
    waiting = in_thread(harness.write_queue.wait_settled, "00")
    eventually(lambda: harness.ended)
    harness.settle()
    assert waiting.is_alive()
    assert harness.ended == [(Row("a", 0), None)]
    harness.confirmed.set()
    waiting.join(10)
    assert harness.ended[1] == (Row("b", 1), NO)


def test_the_worker_waits_while_too_many_rows_are_open(open_harness):
    writer = ManualWriter(concurrency=1)
    harness = open_harness(writer, max_open=2)
    harness.write_queue.put("00", rows("a", "b"))
    more = in_thread(harness.write_queue.put, "00", rows("c"))
    eventually(lambda: writer.calls)
    assert more.is_alive()
    assert harness.write_queue.open_rows == 2
    writer.respond(0)
    more.join(10)
    assert not more.is_alive()
    writer.respond(1)
    writer.respond(2)
    harness.write_queue.wait_settled("00")


def test_a_bug_in_a_writer_is_fatal_and_its_rows_stay_open(open_harness):
    class Broken(ManualWriter):
        async def write(self, rows):
            raise RuntimeError("a bug")

    harness = open_harness(Broken())
    harness.write_queue.put("00", rows("a"))
    assert isinstance(eventually(lambda: harness.crashes)[0], RuntimeError)
    assert harness.write_queue.open_rows == 1


# --- many threads ---


class RandomWriter:
    """A service that takes random times, rejects some rows and checks the order."""

    def __init__(self, seed: int, rows_per_request: int, concurrency: int) -> None:
        self.rows_per_request = rows_per_request
        self.concurrency = concurrency
        self.random = random.Random(seed)
        self.stored: dict[str, int] = {}
        self.rejected: set[Row] = set()
        self.in_flight: Counter[str] = Counter()
        self.calls = 0
        self.wrong: list[str] = []

    async def write(self, rows: Sequence[Row]) -> dict[int, Rejection]:
        self.calls += 1
        self.in_flight.update(row.page for row in rows)
        if max(self.in_flight.values()) > 1:
            self.wrong.append(f"two in flight: {rows}")
        if self.calls > self.concurrency or len(rows) > self.rows_per_request:
            self.wrong.append("too many")
        for _ in range(self.random.randrange(6)):
            await asyncio.sleep(0)
        rejected = {}
        for index, row in enumerate(rows):
            if row.number <= self.stored.get(row.page, -1):
                self.wrong.append(f"out of order: {row}")
            if self.random.random() < 0.1:
                rejected[index] = NO
                self.rejected.add(row)
            self.stored[row.page] = row.number
        self.in_flight.subtract(row.page for row in rows)
        self.calls -= 1
        return rejected


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 100]), st.integers(1, 8), st.integers(1, 40))
def test_with_any_timing_rows_stay_in_order_and_none_is_lost(
    seed, rows_per_request, concurrency, max_open
):
    writer = RandomWriter(seed, rows_per_request, concurrency)
    harness = Harness(writer, max_open)
    put: dict[str, list[Row]] = {bucket: [] for bucket in BUCKET_KEYS[:3]}
    early: list[str] = []

    def work(bucket: str) -> None:
        chance = random.Random(f"{seed}{bucket}")
        for number in range(40):
            batch = [
                Row(f"{bucket}-{chance.randrange(4)}", 10 * number + n)
                for n in range(chance.randrange(1, 4))
            ]
            put[bucket].extend(batch)
            harness.write_queue.put(bucket, batch)
            if chance.random() < 0.2:
                harness.write_queue.wait_settled(bucket)
                if missing := set(put[bucket]) - {row for row, _ in list(harness.ended)}:
                    early.append(f"{bucket} settled without {missing}")
        harness.write_queue.wait_settled(bucket)

    workers = [in_thread(work, bucket) for bucket in put]
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive(), "a deadlock"
    harness.event_loop.close()
    assert (harness.crashes, writer.wrong, early) == ([], [], [])
    everything = [row for rows in put.values() for row in rows]
    assert Counter(row for row, _ in harness.ended) == Counter(everything)
    assert {row for row, rejection in harness.ended if rejection} == writer.rejected
    assert writer.stored == {row.page: row.number for row in everything}
    assert harness.write_queue.open_rows == 0
