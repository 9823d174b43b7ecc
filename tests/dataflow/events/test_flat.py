from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.events.decoder import decode
from dataflow.steps.changes import Change, Skipped
from tests.dataflow.events.event_forms import decoded, record_of

page_ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
texts = st.text(st.characters(exclude_categories=["Cs"]))


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
