from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from connectors.core.records import DeadLetter, Record
from connectors.kafka.topic_validation import (
    HOLD_S,
    HeldEvents,
    TopicValidation,
    is_frame,
    record_in,
)

FRAME = b"\0\0\0\0\1avro"
GOOD, BAD = b"{}", b"<xml/>"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Change:
    """An event that is decoded."""

    record: Record


def decode(record: Record) -> Change | DeadLetter:
    return Change(record) if record.value == GOOD else DeadLetter(record, "undecodable", "not JSON")


@pytest.fixture
def validation(clock: Clock) -> TopicValidation:
    return TopicValidation(decode, limit=100, clock=clock)


def record(offset: int, value: bytes | None) -> Record:
    return Record("cdc.pages", 0, offset, 0, None, value)


def records(values: list[bytes | None], start: int = 0) -> list[Record]:
    return [record(start + n, value) for n, value in enumerate(values)]


def offsets(items) -> list[int]:
    return [record_in(item).offset for item in items]


def test_a_good_event_releases_all_held_events_in_order(validation):
    held = HeldEvents(validation)
    assert held.sift(records([BAD] * 3)) == []
    assert offsets(held.sift(records([BAD, GOOD, BAD], 3))) == [0, 1, 2, 3, 4, 5]
    assert held.room == sys.maxsize
    assert offsets(held.sift(records([BAD] * 2, 6))) == [6, 7]
    assert validation.problem("cdc.pages") is None


def test_an_event_that_is_decoded_here_is_emitted_in_its_decoded_form(clock):
    decoded: list[int] = []

    def count(record: Record) -> Change | DeadLetter:
        decoded.append(record.offset)
        return decode(record)

    held = HeldEvents(TopicValidation(count, clock=clock))
    held.sift(records([BAD, None]))
    items = held.sift(records([BAD, GOOD, BAD], 2))
    assert [type(item) for item in items] == [DeadLetter, Record, DeadLetter, Change, Record]
    assert [type(item) for item in held.sift(records([GOOD], 5))] == [Record]
    assert decoded == [0, 2, 3]


def test_a_recreated_topic_is_validated_once(validation):
    held = HeldEvents(validation)
    held.sift(records([GOOD]))
    validation.restart("another")
    assert held.sift(records([BAD] * 2)) == []
    assert offsets(held.sift(records([GOOD], 2))) == [0, 1, 2]
    validation.restart("another")  # by another reader of the same topic
    assert validation.is_valid


def test_held_events_of_a_deleted_topic_are_dropped(validation, clock):
    held = HeldEvents(validation)
    held.sift(records([BAD] * 99))
    held.clear()
    assert len(held) == 0
    held.sift(records([BAD] * 2))
    clock.now += HOLD_S
    assert offsets(held.sift([])) == [0, 1]


def test_a_good_event_in_another_slot_releases_held_events(validation):
    held, elsewhere = HeldEvents(validation), HeldEvents(validation)
    held.sift(records([BAD]))
    assert offsets(elsewhere.sift(records([GOOD]))) == [0]
    assert offsets(held.sift(records([BAD], 1))) == [0, 1]


def test_a_few_bad_events_are_released_after_a_moment_without_others(validation, clock):
    held = HeldEvents(validation)
    held.sift(records([BAD] * 99))
    assert held.sift([]) == []
    clock.now += HOLD_S
    assert len(held.sift([])) == 99
    assert validation.problem("cdc.pages") is None


def test_a_hundred_bad_events_are_held_back_and_reported(validation, clock):
    slots = [HeldEvents(validation), HeldEvents(validation)]
    for slot in slots:
        slot.sift(records([BAD] * 50))
    clock.now += 3600
    assert [slot.sift([]) for slot in slots] == [[], []]
    reason, remedy = validation.problem("cdc.pages")
    assert "none of the first 100 events of cdc.pages" in reason
    assert "KAFKA_TOPIC" in remedy
    assert len(slots[0].sift(records([GOOD], 50))) == 51
    assert validation.problem("cdc.pages") is None


def test_released_events_count(validation, clock):
    held = HeldEvents(validation)
    for start in (0, 40):
        held.sift(records([BAD] * 40, start))
        clock.now += HOLD_S
        assert len(held.sift([])) == 40
    held.sift(records([BAD] * 20, 80))
    clock.now += HOLD_S
    assert held.sift([]) == []
    assert validation.problem("cdc.pages")


def test_a_topic_that_an_earlier_run_accepted_is_not_validated(validation):
    validation.accept()
    held = HeldEvents(validation)
    assert len(held.sift(records([BAD] * 500))) == 500
    assert validation.problem("cdc.pages") is None


def test_the_first_byte_shows_a_frame():
    assert is_frame(record(0, FRAME))
    assert not is_frame(record(0, b""))
    assert not is_frame(record(0, None))
    assert not is_frame(record(0, b"{}"))


def test_even_a_few_frames_are_held_back_and_reported(validation, clock):
    held = HeldEvents(validation)
    assert held.sift(records([FRAME, None, FRAME])) == []
    clock.now += 3600
    assert held.sift([]) == []
    reason, remedy = validation.problem("cdc.pages")
    assert "schema-registry" in reason
    assert "JsonConverter" in remedy


def test_a_frame_among_other_bad_events_is_an_ordinary_bad_event(validation, clock):
    held = HeldEvents(validation)
    held.sift(records([FRAME, BAD]))
    clock.now += HOLD_S
    assert offsets(held.sift([])) == [0, 1]


def test_tombstones_do_not_validate_the_topic_and_stay_in_order(validation):
    held = HeldEvents(validation)
    assert offsets(held.sift(records([None] * 300))) == list(range(300))
    assert offsets(held.sift(records([None, BAD, None], 300))) == [300]
    assert offsets(held.sift(records([GOOD], 303))) == [301, 302, 303]


def test_held_events_are_bounded_in_records_and_bytes(validation):
    held = HeldEvents(validation, limit=3)
    assert held.room == 3
    held.sift(records([FRAME] * 2))
    assert held.room == 1
    large = HeldEvents(validation)
    large.sift([record(0, b"\0" * 5_000_000)])
    assert large.room == 0
