from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.core.records import DeadLetter
from dataflow.events.decoder import decode
from dataflow.events.json_parser import MAX_EVENT_BYTES
from dataflow.steps.changes import Change, Skipped, Version
from tests.dataflow.events.event_forms import cell, decoded, detail_of, envelope, record_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["page_id", "body", "op", "__op", "after", "source", "schema", "payload", "ts_us", "x"]
)


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
