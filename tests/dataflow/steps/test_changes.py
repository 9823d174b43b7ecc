from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from connectors.core.records import Record
from dataflow.steps.changes import ANY_ERA, PACKED_BYTES, Change, Version

INT32, INT64 = 2**31 - 1, 2**63 - 1

times_us = st.none() | st.integers(1, INT64)
any_version = st.builds(
    Version,
    times_us,
    st.integers(0, INT64),
    st.integers(0, INT32),
    st.integers(0, INT32),
    st.integers(0, INT64),
)
records = st.builds(
    Record,
    st.text(),
    st.integers(0, INT32),
    st.integers(0, INT64),
    st.integers(0, INT64),
    st.none() | st.binary(),
    st.none() | st.binary(),
    st.integers(0, INT32),
    st.none() | st.text(),
)
# few values, so that ties are common
few = st.integers(1, 3)
timed_version = st.builds(
    Version, st.none() | st.integers(0, 3).map(lambda n: n * 1000), few, st.integers(0, 2), few, few
)
written_version = st.builds(Version, few, few, few, few, few)
flat_in_one_partition = st.builds(Version, st.none(), few, st.just(1), few, few)


def flat(offset: int, timestamp_ms: int = 1, partition: int = 0, era: int = 0) -> Version:
    return Version(None, timestamp_ms, partition, era, offset)


def written(time_us: int, offset: int = 0) -> Version:
    return Version(time_us, 1, 0, 0, offset)


@given(any_version)
def test_a_version_survives_packing(version):
    assert len(version.pack()) == PACKED_BYTES
    assert Version.unpack(version.pack()) == version
    assert Version(*version.plain()) == version


@given(records)
def test_a_record_survives_its_plain_form(record):
    assert Record(*record.plain()) == record
    assert len(record.plain()) == len(fields(Record))


@given(any_version)
def test_a_version_equals_itself(version):
    assert version.compare(version) == 0


@given(timed_version, timed_version)
def test_if_one_version_is_newer_the_other_is_older(a, b):
    assert a.compare(b) == -b.compare(a)


@given(*[written_version] * 3)
def test_database_times_are_a_total_order(a, b, c):
    if a.compare(b) >= 0 and b.compare(c) >= 0:
        assert a.compare(c) >= 0


@given(*[flat_in_one_partition] * 3)
def test_offsets_of_one_partition_are_a_total_order(a, b, c):
    if a.compare(b) >= 0 and b.compare(c) >= 0:
        assert a.compare(c) >= 0


def test_the_time_of_the_write_takes_precedence_over_the_offset():
    assert written(5, offset=9).compare(written(6, offset=1)) < 0
    assert written(5, offset=9).compare(written(5, offset=1)) == 0


def test_within_a_partition_the_offset_takes_precedence_over_the_record_s_time():
    assert flat(2, timestamp_ms=1).compare(flat(1, timestamp_ms=9)) > 0


def test_across_partitions_the_record_s_time_decides():
    assert flat(1, timestamp_ms=9, partition=1).compare(flat(5, timestamp_ms=8)) > 0


def test_the_offsets_of_a_later_era_are_newer():
    assert flat(0, era=1).compare(flat(10_000)) > 0


def test_a_replayed_dead_letter_of_a_deleted_topic_is_older_than_the_new_topic_s_events():
    """Its offset may be higher than the new topic's, and its era that of another store."""
    replay = flat(500, timestamp_ms=10, era=ANY_ERA)
    for newer in (flat(3, timestamp_ms=20, era=1), flat(600, timestamp_ms=5, era=0)):
        assert replay.compare(newer) < 0
        assert newer.compare(replay) > 0
    older = flat(499, timestamp_ms=9)
    assert replay.compare(older) > 0
    assert older.compare(replay) < 0


def test_a_replayed_dead_letter_has_the_version_of_its_original():
    for timestamp_ms in (0, 7):
        original, replay = flat(5, timestamp_ms), flat(5, timestamp_ms, era=ANY_ERA)
        assert original.compare(replay) == replay.compare(original) == 0


def test_a_flat_event_and_a_database_event_are_compared_by_their_times():
    assert written(5_001).compare(flat(9, timestamp_ms=5)) > 0
    assert written(4_999).compare(flat(0, timestamp_ms=5)) < 0


def test_a_write_at_time_0_is_older_than_a_flat_event():
    assert written(0).compare(flat(9, timestamp_ms=5)) < 0
    assert flat(9, timestamp_ms=5).compare(written(0)) > 0


def test_without_a_time_the_later_arrival_is_newer():
    without_time = flat(5, timestamp_ms=0, partition=1)
    for other in (flat(9), flat(9, timestamp_ms=0), written(5)):
        assert without_time.compare(other) > 0
        assert other.compare(without_time) > 0


def change(body: str | None, replay_of: str | None = None) -> Change:
    record = Record("t", 0, 0, 1, None, b"", replay_of=replay_of)
    return Change(record, "p", "u", body, flat(0))


def test_a_page_without_visible_text_is_blank():
    for body in (None, "", " ", "\n\t \u3000\u00a0"):
        assert change(body).is_blank
    for body in ("a", " a ", "\u200b", "0"):
        assert not change(body).is_blank


def test_a_change_knows_whether_it_is_a_replay():
    assert not change("b").is_replay
    assert change("b", replay_of="t:0:0").is_replay
