from __future__ import annotations

from connectors.probation import LookAhead, Probation, is_frame
from connectors.records import Record

FRAME = b"\0\0\0\0\1avro"


def record(offset: int, value: bytes | None) -> Record:
    return Record("cdc.pages", 0, offset, 0, None, value)


def test_only_the_limit_is_let_through_until_an_event_could_be_decoded():
    probation = Probation(limit=100)
    assert probation.admit(60) == 60
    assert probation.admit(60) == 40
    assert probation.admit(60) == 0
    probation.decoded(good=1, bad=99)
    assert probation.admit(1000) == 1000
    assert probation.doubt("cdc.pages") is None


def test_what_was_granted_and_not_used_can_be_granted_again():
    probation = Probation(limit=100)
    probation.admit(100)
    probation.give_back(70)
    assert probation.admit(100) == 70


def test_a_topic_of_undecodable_events_is_doubted_with_the_setting_to_change():
    probation = Probation(limit=100)
    probation.decoded(good=0, bad=99)
    assert probation.doubt("cdc.pages") is None
    probation.decoded(good=0, bad=1)
    reason, remedy = probation.doubt("cdc.pages")
    assert "none of the first 100 events of cdc.pages" in reason
    assert "KAFKA_TOPIC" in remedy


def test_a_bad_run_after_a_good_event_is_no_doubt():
    probation = Probation(limit=100)
    probation.decoded(good=1, bad=0)
    probation.decoded(good=0, bad=10_000)
    assert probation.doubt("cdc.pages") is None


def test_frames_are_told_by_their_first_byte():
    assert is_frame(record(0, FRAME))
    assert not is_frame(record(0, b""))
    assert not is_frame(record(0, None))
    assert not is_frame(record(0, b"{}"))


def test_frames_are_held_back_and_doubted():
    probation = Probation()
    ahead = LookAhead(probation)
    assert list(ahead.sift([record(0, FRAME), record(1, None), record(2, FRAME)])) == []
    assert len(ahead) == 3
    reason, remedy = probation.doubt("cdc.pages")
    assert "schema-registry" in reason
    assert "JsonConverter" in remedy


def test_a_plain_record_in_the_same_partition_releases_frames_in_order():
    probation = Probation()
    ahead = LookAhead(probation)
    ahead.sift([record(0, FRAME)])
    came = ahead.sift([record(1, FRAME), record(2, b"{}")])
    assert [r.offset for r in came] == [0, 1, 2]
    assert probation.doubt("cdc.pages") is None
    assert len(ahead) == 0


def test_a_plain_record_elsewhere_in_the_process_releases_frames():
    probation = Probation()
    ahead, elsewhere = LookAhead(probation), LookAhead(probation)
    ahead.sift([record(0, FRAME)])
    elsewhere.sift([record(0, b"{}")])
    assert [r.offset for r in ahead.sift([])] == [0]


def test_a_tombstone_proves_nothing_but_keeps_its_place_behind_frames():
    probation = Probation()
    ahead = LookAhead(probation)
    assert [r.offset for r in ahead.sift([record(0, None)])] == [0]
    ahead.sift([record(1, FRAME), record(2, None)])
    assert [r.offset for r in ahead.sift([record(3, b"x")])] == [1, 2, 3]


def test_the_look_ahead_is_bounded_in_records_and_bytes():
    ahead = LookAhead(Probation(), limit=3)
    ahead.sift([record(n, FRAME) for n in range(3)])
    assert ahead.is_full
    large = LookAhead(Probation())
    large.sift([record(0, b"\0" * 5_000_000)])
    assert large.is_full
