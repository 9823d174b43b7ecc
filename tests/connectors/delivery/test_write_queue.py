from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.core.buckets import BUCKET_KEYS
from connectors.core.errors import Rejection
from connectors.delivery.write_queue import ROWS_AHEAD
from tests.connectors.delivery.manual_writer import NO, HandWriter, Post, Row, in_thread, rows
from tests.eventually import eventually


def test_rows_are_written_and_end(open_post):
    writer = HandWriter()
    post = open_post(writer)
    post.write_queue.put("00", rows("a", "b"))
    writer.answer(0)
    writer.answer(1)
    post.write_queue.wait_settled("00")
    assert [row.page for row, _ in post.ended] == ["a", "b"]
    assert post.write_queue.open_rows == 0


def test_what_is_not_settled_is_known_by_bucket_and_in_order(open_post):
    writer = HandWriter(concurrency=2)
    post = open_post(writer)
    post.write_queue.put("00", rows(*"abc"))
    post.write_queue.put("01", rows("d"))
    assert [row.page for row in post.write_queue.unsettled("00")] == ["a", "b", "c"]
    writer.answer(1)
    eventually(lambda: [row.page for row in post.write_queue.unsettled("00")] == ["a", "c"])
    assert post.write_queue.unsettled("01") == rows("d")
    assert post.write_queue.unsettled("02") == []


def test_as_many_calls_are_in_flight_as_the_writer_allows(open_post):
    writer = HandWriter(concurrency=3)
    post = open_post(writer)
    post.write_queue.put("00", rows(*"abcde"))
    eventually(lambda: len(writer.calls) == 3)
    post.settle()
    assert len(writer.calls) == 3
    writer.answer(1)
    eventually(lambda: len(writer.calls) == 4)


def test_it_has_plenty_while_more_waits_than_the_writer_takes_next(open_post):
    writer = HandWriter(rows_per_request=2, concurrency=3)
    post = open_post(writer)
    in_flight = waiting = 2 * 3
    post.write_queue.put("00", rows(*map(str, range(in_flight + waiting + ROWS_AHEAD))))
    eventually(lambda: len(writer.calls) == 3)
    post.settle()
    assert post.write_queue.has_plenty
    writer.answer(0)
    eventually(lambda: len(writer.calls) == 4)
    assert not post.write_queue.has_plenty


def test_waiting_rows_share_calls_up_to_the_writer_s_limit(open_post):
    writer = HandWriter(rows_per_request=3, concurrency=1)
    post = open_post(writer)
    post.write_queue.put("00", rows("a"))
    eventually(lambda: writer.calls)
    post.write_queue.put("00", rows(*"bcdef"))
    writer.answer(0)
    writer.answer(1)
    writer.answer(2)
    post.write_queue.wait_settled("00")
    assert [[row.page for row in batch] for batch in writer.batches] == [
        ["a"],
        ["b", "c", "d"],
        ["e", "f"],
    ]


def test_of_a_page_never_two_rows_are_in_flight_and_the_next_one_goes_after_the_first(open_post):
    writer = HandWriter()
    post = open_post(writer)
    post.write_queue.put("00", [Row("p", 1)])
    eventually(lambda: writer.calls)
    post.write_queue.put("00", [Row("p", 2), Row("q", 1)])
    eventually(lambda: len(writer.calls) == 2)
    assert writer.batches[1] == [Row("q", 1)]
    writer.answer(0)
    writer.answer(2)
    writer.answer(1)
    post.write_queue.wait_settled("00")
    assert writer.batches[2] == [Row("p", 2)]


def test_a_newer_row_takes_the_place_of_one_that_waits(open_post):
    writer = HandWriter(concurrency=1)
    post = open_post(writer)
    post.write_queue.put("00", [Row("x", 0)])
    eventually(lambda: writer.calls)
    post.write_queue.put("00", [Row("p", 1), Row("q", 1), Row("x", 1), Row("p", 2), Row("x", 2)])
    for number in range(4):
        writer.answer(number)
    post.write_queue.wait_settled("00")
    assert writer.batches == [[Row("x", 0)], [Row("p", 2)], [Row("q", 1)], [Row("x", 2)]]
    assert Counter(row for row, _ in post.ended) == Counter(
        [Row("x", 0), Row("p", 1), Row("q", 1), Row("x", 1), Row("p", 2), Row("x", 2)]
    )


def test_the_barrier_opens_when_all_rows_of_its_bucket_are_acknowledged(open_post):
    writer = HandWriter()
    post = open_post(writer)
    post.write_queue.put("00", rows("a", "b"))
    post.write_queue.put("01", rows("c"))
    writer.answer(2)
    post.write_queue.wait_settled("01")
    post.write_queue.wait_settled("02")
    waiting = in_thread(post.write_queue.wait_settled, "00")
    writer.answer(0)
    eventually(lambda: len(post.ended) == 2)
    assert waiting.is_alive()
    writer.answer(1)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_refused_row_is_open_until_its_dead_letter_is_confirmed(open_post):
    writer = HandWriter(rows_per_request=2)
    post = open_post(writer)
    post.confirmed.clear()
    post.write_queue.put("00", rows("a", "b"))
    writer.answer(0, {1: NO})
    waiting = in_thread(post.write_queue.wait_settled, "00")
    eventually(lambda: post.ended)
    post.settle()
    assert waiting.is_alive()
    assert post.ended == [(Row("a", 0), None)]
    post.confirmed.set()
    waiting.join(10)
    assert post.ended[1] == (Row("b", 1), NO)


def test_the_worker_waits_while_too_many_rows_are_open(open_post):
    writer = HandWriter(concurrency=1)
    post = open_post(writer, max_open=2)
    post.write_queue.put("00", rows("a", "b"))
    more = in_thread(post.write_queue.put, "00", rows("c"))
    eventually(lambda: writer.calls)
    assert more.is_alive()
    assert post.write_queue.open_rows == 2
    writer.answer(0)
    more.join(10)
    assert not more.is_alive()
    writer.answer(1)
    writer.answer(2)
    post.write_queue.wait_settled("00")


def test_a_writer_that_breaks_is_fatal_and_keeps_the_barrier_shut(open_post):
    class Broken(HandWriter):
        async def write(self, rows):
            raise RuntimeError("a bug")

    post = open_post(Broken())
    post.write_queue.put("00", rows("a"))
    assert isinstance(eventually(lambda: post.crashes)[0], RuntimeError)
    assert post.write_queue.open_rows == 1


# --- many threads ---


class RandomWriter:
    """A service that takes random times, refuses some rows, and watches the order."""

    def __init__(self, seed: int, rows_per_request: int, concurrency: int) -> None:
        self.rows_per_request = rows_per_request
        self.concurrency = concurrency
        self.random = random.Random(seed)
        self.stored: dict[str, int] = {}
        self.refused: set[Row] = set()
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
        refused = {}
        for index, row in enumerate(rows):
            if row.number <= self.stored.get(row.page, -1):
                self.wrong.append(f"out of order: {row}")
            if self.random.random() < 0.1:
                refused[index] = NO
                self.refused.add(row)
            self.stored[row.page] = row.number
        self.in_flight.subtract(row.page for row in rows)
        self.calls -= 1
        return refused


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 100]), st.integers(1, 8), st.integers(1, 40))
def test_whatever_the_timing_order_holds_nothing_is_lost_and_barriers_hold(
    seed, rows_per_request, concurrency, max_open
):
    writer = RandomWriter(seed, rows_per_request, concurrency)
    post = Post(writer, max_open)
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
            post.write_queue.put(bucket, batch)
            if chance.random() < 0.2:
                post.write_queue.wait_settled(bucket)
                if missing := set(put[bucket]) - {row for row, _ in list(post.ended)}:
                    early.append(f"{bucket} opened over {missing}")
        post.write_queue.wait_settled(bucket)

    workers = [in_thread(work, bucket) for bucket in put]
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive(), "a deadlock"
    post.event_loop.close()
    assert (post.crashes, writer.wrong, early) == ([], [], [])
    everything = [row for rows in put.values() for row in rows]
    assert Counter(row for row, _ in post.ended) == Counter(everything)
    assert {row for row, refusal in post.ended if refusal} == writer.refused
    assert writer.stored == {row.page: row.number for row in everything}
    assert post.write_queue.open_rows == 0
