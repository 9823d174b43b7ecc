from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.core.records import DeadLetter, Record
from dataflow.events.decoder import decode
from dataflow.events.json_parser import MAX_EVENT_BYTES
from dataflow.steps.changes import ANY_ERA, Change, Skipped, Version

SAMPLES = Path(__file__).parents[2] / "samples" / "debezium-cassandra.jsonl"

page_ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["page_id", "body", "op", "__op", "after", "source", "schema", "payload", "ts_us", "x"]
)


def record_of(value: bytes | None, key: bytes | None = None, **more: Any) -> Record:
    return Record("cdc.pages", 1, 7, 1_000, key, value, **more)


def decoded(event: object, key: object = None, **more: Any):
    value = json.dumps(event).encode()
    return decode(record_of(value, None if key is None else json.dumps(key).encode(), **more))


def detail_of(value: bytes) -> str:
    dead_letter = decode(record_of(value))
    assert isinstance(dead_letter, DeadLetter), dead_letter
    assert dead_letter.reason == "undecodable"
    assert dead_letter.record.value == value
    return dead_letter.detail


def cell(value: object) -> dict[str, object]:
    return {"value": value, "deletion_ts": None, "set": True}


def envelope(op: str, body: object = None, page_id: object = "p", **source: object):
    after = {"page_id": cell(page_id), "body": body, "title": None, "_range_start": None}
    return {"ts_ms": 5, "op": op, "source": {"ts_us": 9_000_001, **source}, "after": after}


# --- flat events ---


@given(page_ids, texts, st.sampled_from("cu"))
def test_a_flat_event_is_decoded_unchanged(page_id, body, op):
    change = decoded({"page_id": page_id, "body": body, "op": op})
    assert isinstance(change, Change)
    assert (change.page_id, change.op, change.body) == (page_id, op, body)
    assert change.version.written_us is None
    assert (change.version.partition, change.version.offset) == (1, 7)


@given(page_ids, texts)
def test_a_flat_event_may_be_written_with_escapes_or_without(page_id, body):
    event = {"page_id": page_id, "body": body, "op": "c"}
    plain = decode(record_of(json.dumps(event, ensure_ascii=False).encode()))
    escaped = decode(record_of(json.dumps(event).encode()))
    assert isinstance(plain, Change)
    assert isinstance(escaped, Change)
    assert (plain.page_id, plain.body) == (escaped.page_id, escaped.body) == (page_id, body)


def test_a_flat_delete_needs_no_body_and_has_none():
    for extra in ({}, {"body": "still there"}, {"body": None}):
        change = decoded({"page_id": "p", "op": "d", **extra})
        assert isinstance(change, Change)
        assert (change.op, change.body) == ("d", None)


@pytest.mark.parametrize("op", ["r", "t", "i", "C", "", "create", "other"])
def test_a_flat_event_with_another_op_is_skipped_even_without_a_page(op):
    for event in ({"page_id": "p", "body": "b", "op": op}, {"op": op}):
        skipped = decoded(event)
        assert isinstance(skipped, Skipped)
        assert (skipped.op, skipped.outcome) == ("other", "skipped_op")


def test_an_update_that_does_not_touch_the_body_is_skipped():
    skipped = decoded({"page_id": "p", "op": "u", "title": "new"})
    assert isinstance(skipped, Skipped)
    assert skipped.outcome == "skipped_unchanged"


def test_an_update_that_sets_the_body_to_null_leaves_a_blank_page():
    change = decoded({"page_id": "p", "op": "u", "body": None})
    assert isinstance(change, Change)
    assert change.body == ""
    assert change.is_blank


@pytest.mark.parametrize(
    "extra",
    [
        {"source": {"who": "an author"}},
        {"source": "the web"},
        {"payload": "anything"},
        {"schema": 1},
        {"after": None},
        {"after": "lunch"},
        {"ts_ms": 5, "before": None},
        {"nested": {"op": "d", "page_id": "other"}},
    ],
)
def test_other_fields_are_ignored(extra):
    for page_id, text in (("p", "p"), (1.5, "1.5")):
        change = decoded({"page_id": page_id, "body": "b", "op": "c", **extra})
        assert isinstance(change, Change), change
        assert (change.page_id, change.body) == (text, "b")


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


# --- bad input ---


def flat(**changed: object) -> bytes:
    return json.dumps({"page_id": "p", "body": "b", "op": "c", **changed}).encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "empty"),
        (b"\0\0\0\0\x05abc", "schema-registry"),
        (b"hello", "not JSON"),
        (b'{"page_id":"p"', "not JSON"),
        (b"\xef\xbb\xbf" + b'{"page_id":"p","body":"b","op":"c"}', "byte order mark"),
        ('{"page_id":"p","body":"b","op":"c"}'.encode("utf-16"), "not JSON"),
        (b"null", "null"),
        (b"true", "a boolean"),
        (b"17", "a number"),
        (b"1e400", "a number"),
        (b'"text"', "text"),
        (b"[]", "a list"),
        (b"{}", "no fields"),
        (b'{"id":1,"text":"b"}', '"id", "text"'),
        (b'{"schema":{},"payload":[1]}', "a list"),
        (b'{"schema":{},"payload":{}}', "no fields"),
        (flat(op=None), "null"),
        (flat(op=1), "a number"),
        (b'{"page_id":"p","body":"b"}', '"op" must be'),
        (b'{"page_id":"p","body":"b","op":1.5}', "a number"),
        (b'{"body":"b","op":"c"}', "got none"),
        (flat(page_id=None), "got none"),
        (flat(page_id=""), "empty"),
        (flat(page_id=True), "a boolean"),
        (flat(page_id=["p"]), "a list"),
        (flat(page_id={"value": "p"}), "an object"),
        (flat(page_id="a\0b"), "NUL"),
        (b'{"page_id":"\\ud800","body":"b","op":"c"}', "not JSON"),
        (b'{"page_id":1.5,"body":"\\udfff","op":"c"}', "not JSON"),
        (b'{"page_id":1e400,"body":"\\udfff","op":"c"}', "not JSON"),
        (b'{"page_id":"\xff","body":"b","op":"c"}', "not JSON"),
        (b'{"page_id":"p","body":"\xed\xa0\x80","op":"c"}', "not JSON"),
        (b'{"page_id":1e400,"body":"\xed\xa0\x80","op":"c"}', "not JSON"),
        (b'{"page_id":NaN,"body":"b","op":"c"}', "not JSON"),
        (b'{"page_id":1e400,"body":NaN,"op":"c"}', "not JSON"),
        (b'{"page_id":"p","body":"b","op":"c","n":-Infinity}', "not JSON"),
        (flat(body=None), "must have"),
        (b'{"page_id":"p","op":"c"}', "must have"),
        (flat(body=5), "a number"),
        (b'{"page_id":1.5,"body":2.5,"op":"c"}', "a number"),
        (b'{"page_id":"p","body":1e400,"op":"c"}', "a number"),
        (flat(body=["b"]), "a list"),
        (flat(op="u", body={}), "an object"),
        (flat(body="x" * MAX_EVENT_BYTES), "limit"),
        (b'{"page_id":"p","op":"c","body":"b","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
        (b'{"page_id":1.5,"op":"c","body":"b","x":' + b"[" * 1020 + b"]" * 1020 + b"}", "not JSON"),
        (json.dumps(envelope("i", None)).encode(), 'write "body" in the INSERT'),
        (json.dumps(envelope("i", cell(5))).encode(), "a number"),
        (json.dumps(envelope("i", cell("b"), page_id=None)).encode(), "got none"),
        (b'{"op":"i","source":{},"after":[1]}', "an object of columns"),
        (b'{"op":"i","source":{},"after":{"page_id":{"value":"p"}}}', 'no column "body"'),
        (b'{"op":"d","source":{},"after":null}', "got none"),
        (b'{"__op":"c","page_id":"p"}', 'no column "body"'),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else value,
)
def test_anything_but_a_change_of_a_page_is_a_dead_letter_with_the_cause(value, expected):
    assert expected in detail_of(value)


def test_an_event_of_exactly_the_limit_is_read():
    body = "x" * (MAX_EVENT_BYTES - len(flat(body="")))
    assert isinstance(decode(record_of(flat(body=body))), Change)


def test_long_field_names_do_not_make_a_long_detail():
    event = {"n" * 10_000 + str(n): 1 for n in range(50)}
    assert len(detail_of(json.dumps(event).encode())) < 600


@given(st.binary(max_size=200), st.none() | st.binary(max_size=50))
@example(b'{"page_id":1.5,"op":"c","body":"b","payload":null}', None)
def test_arbitrary_bytes_never_raise(value, key):
    assert isinstance(decode(record_of(value, key)), (Change, Skipped, DeadLetter))


@given(st.dictionaries(fields, json_values, max_size=8), json_values)
def test_arbitrary_json_never_raises_and_a_change_can_be_encoded(event, key):
    change = decoded(event, key)
    assert isinstance(change, (Change, Skipped, DeadLetter))
    if isinstance(change, Change):
        assert change.page_id.encode()
        assert "\0" not in change.page_id
        assert change.body is None or change.body.encode() is not None
        assert Version.unpack(change.version.pack()) == change.version


@given(
    st.sampled_from("iucdr"),
    st.none() | json_values | json_values.map(cell),
    st.none() | json_values | json_values.map(cell),
    json_values | st.fixed_dictionaries({"ts_us": json_values}),
    st.booleans(),
)
def test_arbitrary_columns_never_raise(op, page_id, body, source, wrapped):
    event: dict[str, object] = {
        "op": op,
        "source": source,
        "after": {"page_id": page_id, "body": body},
    }
    if wrapped:
        event = {"schema": None, "payload": event}
    assert isinstance(decoded(event), (Change, Skipped, DeadLetter))


@given(st.text(), json_values)
def test_arbitrary_replay_headers_never_raise(origin, event):
    assert decoded({"page_id": "p", "body": "b", "op": "c"}, replay_of=origin) is not None
