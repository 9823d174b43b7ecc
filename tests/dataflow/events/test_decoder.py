from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.core.records import DeadLetter
from dataflow.events.decoder import decode
from dataflow.steps.changes import ANY_ERA, Change, Skipped
from tests.dataflow.events.event_forms import cell, decoded, envelope, record_of

SAMPLES = Path(__file__).parents[2] / "samples" / "debezium-cassandra.jsonl"

# --- page ids ---


@pytest.mark.parametrize(
    "number",
    [
        *["0", "1", "-1", "9007199254740993", "18446744073709551615", "18446744073709551616"],
        *["123456789012345678901234567890", "-123456789012345678901234567890", "9" * 400],
        *["9" * 5000, "-" + "1" * 100_000],
        *["1.5", "1.50", "0.1", "-0.0", "1e5", "1E5", "1e-7", "1.0e+400", "1e400", "-1e400"],
        "3.14159265358979323846264338327950288",
    ],
    ids=lambda number: number[:30],
)
def test_a_number_as_page_id_is_kept_digit_by_digit(number):
    forms = [
        f'{{"page_id":{number},"body":"b","op":"c"}}',
        f'{{"op":"i","source":{{"ts_us":5}},"after":{{"page_id":{{"value":{number}}},"body":{{"value":"b"}}}}}}',
        f'{{"__op":"c","page_id":{number},"body":"b","after":{{"value":1}}}}',
        f'{{"__op":"c","page_id":{{"value":{number}}},"body":"b"}}',
    ]
    for form in [*forms, *(f'{{"schema":{{"a":0.5}},"payload":{form}}}' for form in forms)]:
        change = decode(record_of(form.encode()))
        assert isinstance(change, Change), (form, change)
        assert (change.page_id, change.body) == (number, "b")
    from_key = f'{{"page_id":{{"value":{number}}}}}'.encode()
    change = decode(record_of(b'{"op":"d","source":{},"after":null}', from_key))
    assert isinstance(change, Change)
    assert change.page_id == number


def test_a_number_as_page_id_keeps_the_write_time_of_its_event():
    value = (
        b'{"op":"i","source":{"ts_us":123},"after":{"page_id":{"value":1.50},"body":{"value":"b"}}}'
    )
    change = decode(record_of(value))
    assert isinstance(change, Change)
    assert change.version.written_us == 123


@pytest.mark.parametrize(
    "page_id",
    [
        "a/b",
        " lead",
        "  ",
        "'",
        "''",
        ".",
        "..",
        "漢字",
        "e\u0301",
        "\U0001f469\u200d\U0001f4bb",
        "\n",
    ],
)
def test_any_text_except_the_empty_one_is_a_page_id(page_id):
    change = decoded({"page_id": page_id, "body": "b", "op": "c"})
    assert isinstance(change, Change)
    assert change.page_id == page_id


# --- Debezium's forms ---


def samples() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]


EXPECTED = [
    ("c", "p1", "The first page."),
    ("c", "p1", "The first page."),
    ("u", "p1", "The first page, revised."),
    "skipped_unchanged",
    ("u", "p1", ""),
    ("u", "p1", ""),
    ("u", "p2", "Made by update."),
    ("c", "p4", ""),
    ("c", "é/ü 漢", "Unicode id."),
    ("c", "b1", "Batch one."),
    ("c", "b2", "Batch two."),
    ("d", "p1", None),
    ("c", "p1", "The first page, again."),
]


def in_form(value: dict[str, Any], form: str) -> dict[str, Any]:
    """Return a recorded envelope as another converter or transformation writes it."""
    if form.startswith("wrapped "):
        return {"schema": {"type": "struct"}, "payload": in_form(value, form[8:])}
    if form == "envelope":
        return value
    times = {"__source_ts_us": value["source"]["ts_us"], "__source_ts_ms": value["ts_ms"]}
    return {**value["after"], "__op": value["op"], "__deleted": "false", **times}


@pytest.mark.parametrize("form", ["envelope", "wrapped envelope", "unwrapped", "wrapped unwrapped"])
def test_recorded_events_are_read_in_every_form(form):
    found: list[object] = []
    for sample in samples():
        key, value = sample["key"].encode(), json.dumps(in_form(sample["value"], form)).encode()
        event = decode(record_of(value, key))
        if isinstance(event, Change):
            assert event.version.written_us == sample["value"]["source"]["ts_us"]
            found.append((event.op, event.page_id, event.body))
        else:
            assert isinstance(event, Skipped), event
            found.append(event.outcome)
    assert found == EXPECTED


def test_an_insert_is_a_create_under_either_of_its_names():
    for op in "ic":
        change = decoded(envelope(op, cell("b")))
        assert isinstance(change, Change)
        assert (change.op, change.body, change.version.written_us) == ("c", "b", 9_000_001)


@pytest.mark.parametrize("op", ["r", "t", "x"])
def test_range_tombstones_and_unknown_ops_are_skipped(op):
    skipped = decoded({"op": op, "source": {}, "after": {"_range_start": {"x": 1}}})
    assert isinstance(skipped, Skipped)
    assert (skipped.op, skipped.outcome) == ("other", "skipped_op")


def test_a_null_cell_is_an_untouched_column_and_a_null_value_a_deleted_one():
    untouched, deleted = decoded(envelope("u", None)), decoded(envelope("u", cell(None)))
    assert isinstance(untouched, Skipped)
    assert untouched.outcome == "skipped_unchanged"
    assert isinstance(deleted, Change)
    assert deleted.body == ""


@pytest.mark.parametrize("value", [None, b'{"schema":null,"payload":null}'])
def test_a_tombstone_is_skipped(value):
    skipped = decode(record_of(value, b'{"page_id":"p"}'))
    assert isinstance(skipped, Skipped)
    assert (skipped.op, skipped.outcome) == ("d", "skipped_op")


@pytest.mark.parametrize(
    "key",
    [
        {"page_id": "p"},
        {"page_id": cell("p")},
        {"schema": {}, "payload": {"page_id": "p"}},
        {"schema": {}, "payload": {"page_id": cell("p")}},
    ],
)
def test_a_delete_without_columns_takes_the_page_from_its_key(key):
    change = decoded({"op": "d", "source": {"ts_us": 5}, "after": None}, key)
    assert isinstance(change, Change)
    assert (change.page_id, change.op) == ("p", "d")


def test_a_page_id_of_zero_does_not_come_from_the_key():
    change = decoded(envelope("d", cell(None), page_id=0), {"page_id": "other"})
    assert isinstance(change, Change)
    assert change.page_id == "0"


@pytest.mark.parametrize(
    ("source", "written_us"),
    [
        ({"ts_us": 5, "ts_ms": 9}, 5),
        ({"ts_us": None, "ts_ms": 9}, 9000),
        ({"ts_ms": 9}, 9000),
        ({"ts_us": "5"}, None),
        ({"ts_us": 0, "ts_ms": 9}, 0),
        ({"ts_us": -5, "ts_ms": -1}, 0),
        ({"ts_us": 5.5}, None),
        ({"ts_us": True}, None),
        ({"ts_us": 2**63}, None),
        ({"ts_us": 2**80}, None),
        ({"ts_ms": 2**62}, None),
        ({}, None),
    ],
)
def test_the_write_time_is_the_most_precise_one_in_the_event(source, written_us):
    event = {"op": "i", "source": source, "after": {"page_id": cell("p"), "body": cell("b")}}
    change = decoded(event)
    assert isinstance(change, Change)
    assert change.version.written_us == written_us


# --- replayed dead letters ---


def test_a_replayed_dead_letter_is_as_old_as_its_original():
    event = {"page_id": "p", "body": "b", "op": "c"}
    change = decoded(event, replay_of="cdc:pages:2:41", era=3)
    assert isinstance(change, Change)
    version = change.version
    assert (version.partition, version.offset, version.era) == (2, 41, ANY_ERA)
    assert change.is_replay


@pytest.mark.parametrize(
    "origin", ["", "x", ":", "::", "t:1", "t:1:x", "t:-1:2", "t:9999999999:1", "t:1:" + "9" * 30]
)
def test_a_replay_without_a_valid_origin_is_undecodable(origin):
    dead_letter = decoded({"page_id": "p", "body": "b", "op": "c"}, replay_of=origin)
    assert isinstance(dead_letter, DeadLetter)
    assert "topic:partition:offset" in dead_letter.detail
