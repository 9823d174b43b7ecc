from __future__ import annotations

import pickle
from typing import TypeGuard

import pytest
from structlog.testing import capture_logs

from connectors.core.buckets import BUCKET_KEYS, bucket_of
from connectors.core.records import DeadLetter, FlushMarker, Outcome, PageVector, Record
from connectors.delivery.sinks import DeadLetterSink, VectorSink
from connectors.runtime.shutdown import Shutdown
from tests.connectors.delivery.manual_writer import Harness, ManualWriter, in_thread
from tests.eventually import eventually


class Exit(BaseException):
    pass


def refuse_to_end(code: int):
    raise Exit(code)


def vector(page: str, number: int = 0) -> PageVector:
    record = Record("cdc.pages", 1, number, 5, b"key", b"value", 2, "cdc.pages:0:7")
    return PageVector(page, b"[%d]" % number, record, 9, "nomic-embed-text")


def vectors(*pages: str) -> list[PageVector]:
    return [vector(page, number) for number, page in enumerate(pages)]


def is_row(outcome: Outcome) -> TypeGuard[PageVector]:
    return isinstance(outcome, PageVector)


def is_dead_letter(outcome: Outcome) -> TypeGuard[DeadLetter]:
    return isinstance(outcome, DeadLetter)


@pytest.fixture
def harness(open_harness) -> Harness:
    return open_harness(ManualWriter(), key=lambda row: row.page_id)


class Sink:
    """A sink, with the rows that it received and resumed."""

    def __init__(self, harness: Harness) -> None:
        self.received: list[PageVector] = []
        self.resumed: list[PageVector] = []
        self.sink = VectorSink(
            "stargate",
            harness.write_queue,
            is_row,
            self.received.extend,
            self.resumed.extend,
            Shutdown(exit_process=refuse_to_end),
        )

    def part(self, state=None):
        return self.sink.build_part("stargate", "03", state)


def test_the_partitions_are_the_buckets_and_each_page_has_one(harness):
    sink = Sink(harness).sink
    assert sink.list_parts() == list(BUCKET_KEYS)
    for page in ("a", "b", "漢"):
        assert sink.list_parts()[sink.part_fn(bucket_of(page))] == bucket_of(page)


def test_an_epoch_ends_with_rows_in_flight_and_its_snapshot_holds_them(harness):
    opened = Sink(harness)
    part = opened.part()
    part.write_batch([vectors("a", "b")])
    assert opened.received == vectors("a", "b")
    harness.writer.respond(0)
    eventually(lambda: harness.ended)
    _, kept = part.snapshot()
    assert [row[0] for row in kept] == ["b"]
    harness.writer.respond(1)
    eventually(lambda: harness.write_queue.open_rows == 0)
    assert part.snapshot()[1] == []


def test_rows_of_a_snapshot_are_sent_first_and_in_order(harness, open_harness):
    part = Sink(harness).part()
    part.write_batch([[vector("a", 1), vector("b", 2)]])
    state = pickle.loads(pickle.dumps(part.snapshot()))
    later = open_harness(ManualWriter(concurrency=1), key=lambda row: row.page_id)
    opened = Sink(later)
    part = opened.part(state)
    assert opened.resumed == [vector("a", 1), vector("b", 2)]
    assert opened.received == []
    eventually(lambda: later.writer.calls)
    part.write_batch([[vector("a", 3)]])
    for number in range(3):
        later.writer.respond(number)
    later.write_queue.wait_settled("03")
    assert later.writer.batches == [[vector("a", 1)], [vector("b", 2)], [vector("a", 3)]]


def test_an_output_takes_only_its_own_rows(harness):
    opened = Sink(harness)
    dead_letter = DeadLetter(vector("a").record, "refused-by-embedder", "too long")
    opened.part().write_batch([[dead_letter], [vector("b"), dead_letter, FlushMarker()]])
    assert opened.received == [vector("b")]
    assert harness.write_queue.open_rows == 1


def test_a_full_write_queue_does_not_delay_the_start(open_harness):
    harness = open_harness(ManualWriter(), max_open=1, key=lambda row: row.page_id)
    part = Sink(harness).part()
    part.write_batch([vectors("a", "b", "c")])
    Sink(harness).part(part.snapshot())
    assert harness.write_queue.open_rows == 6


@pytest.mark.parametrize(
    "values",
    [[FlushMarker()], [vector("b"), FlushMarker()], [FlushMarker(), FlushMarker(settles=False)]],
)
def test_an_epoch_that_ends_with_a_flush_marker_waits_until_all_rows_are_settled(harness, values):
    part = Sink(harness).part()
    part.write_batch([vectors("a")])
    part.snapshot()
    part.write_batch([values])
    snapshot = in_thread(part.snapshot)
    eventually(lambda: harness.writer.calls)
    assert snapshot.is_alive()
    for number in range(harness.write_queue.open_rows):
        harness.writer.respond(number)
    snapshot.join(10)
    assert not snapshot.is_alive()
    part.write_batch([vectors("c")])
    assert len(part.snapshot()[1]) == 1  # the marker is for one epoch only


@pytest.mark.parametrize("values", [[FlushMarker(settles=False)], [FlushMarker(), vector("b")]])
def test_an_epoch_with_an_item_after_the_flush_marker_ends_with_rows_in_flight(harness, values):
    part = Sink(harness).part()
    part.write_batch([vectors("a")])
    part.write_batch([values])
    assert len(part.snapshot()[1]) == len(values)


def test_a_snapshot_of_another_layout_is_rejected_with_the_remedy(harness):
    with capture_logs() as lines, pytest.raises(Exit):
        Sink(harness).part((0, []))
    assert "let the old version finish first, or remove the store" in lines[0]["error"]


def test_an_epoch_ends_when_its_dead_letters_are_confirmed(open_harness):
    harness = open_harness(ManualWriter(), key=lambda dead_letter: dead_letter.record.origin)
    received: list[DeadLetter] = []
    part = DeadLetterSink(
        "dead letters", harness.write_queue, is_dead_letter, received.extend, Shutdown()
    ).build_part("dead_letters", "03", None)
    dead_letter = DeadLetter(vector("a").record, "undecodable", "no JSON")
    part.write_batch([[dead_letter]])
    assert received == [dead_letter]
    snapshot = in_thread(part.snapshot)
    eventually(lambda: harness.writer.calls)
    assert snapshot.is_alive()
    harness.writer.respond(0)
    snapshot.join(10)
    assert not snapshot.is_alive()


def test_an_error_in_the_sink_is_fatal(harness, monkeypatch):
    opened = Sink(harness)
    monkeypatch.setattr(opened.sink, "received", lambda rows: 1 / 0)
    with pytest.raises(Exit):
        opened.part().write_batch([vectors("a")])
