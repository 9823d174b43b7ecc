"""Every form of an event of Debezium's Cassandra connector: recorded ones and combinations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.core.records import DeadLetter, Record
from dataflow.events.decoder import decode
from dataflow.steps.changes import Change, Skipped

SAMPLES = Path(__file__).parents[2] / "samples" / "debezium-cassandra-forms.jsonl"
FORMS = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]


def as_written(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def outcome_of(value: bytes, key: bytes | None = None) -> Any:
    """Return the result of `decode` as plain values."""
    event = decode(Record("cdc.pages", 0, 7, 1_000, key, value))
    if isinstance(event, Skipped):
        return event.outcome
    if isinstance(event, DeadLetter):
        return event.reason
    return {
        "op": event.op,
        "page_id": event.page_id,
        "body": event.body,
        "written_us": event.version.written_us,
    }


@pytest.mark.parametrize("form", FORMS, ids=[form["case"] for form in FORMS])
def test_a_recorded_event_is_decoded_as_the_statement_that_was_run(form):
    assert outcome_of(as_written(form["value"]), form["key"].encode()) == form["expected"]


# --- combined forms


@dataclass(frozen=True)
class Write:
    """One statement in CQL.

    Attributes:
        op: What it did to the row.
        page_id: The page as JSON text.
        body: The text, or None for null.
        touched: Whether the statement names the column of the body.
        written_us: Its time.
    """

    op: Literal["insert", "update", "delete"]
    page_id: str
    body: str | None
    touched: bool
    written_us: int

    @property
    def expected(self) -> Any:
        """The expected result, which does not depend on the form."""
        if self.op != "delete" and not self.touched:
            return "undecodable" if self.op == "insert" else "skipped_unchanged"
        is_text = self.page_id.startswith('"')
        return {
            "op": {"insert": "c", "update": "u", "delete": "d"}[self.op],
            "page_id": json.loads(self.page_id) if is_text else self.page_id,
            "body": None if self.op == "delete" else self.body or "",
            "written_us": max(self.written_us, 0),
        }


@dataclass(frozen=True)
class Form:
    """The settings of the connector, its transformations and its converter."""

    envelope_transformation: bool
    unwrapped: bool
    schemas: bool
    plain_cells: bool
    rewritten_deletes: bool
    extra_columns: bool

    def event(self, write: Write, deletion_ts: int | None, untouched: object) -> str:
        """The record's value."""
        columns = {"page_id": f'{{"value":{write.page_id},"deletion_ts":null,"set":true}}'}
        columns |= {"body": self._body(write, deletion_ts, untouched)}
        if self.extra_columns:
            columns |= {"title": "null", "_range_start": "null", "_range_end": "null"}
        payload = self._payload(write, columns)
        return f'{{"schema":{{"type":"struct"}},"payload":{payload}}}' if self.schemas else payload

    def _body(self, write: Write, deletion_ts: int | None, untouched: object) -> str:
        if write.op == "delete":
            return json.dumps({"value": None, "deletion_ts": write.written_us, "set": True})
        if not write.touched:
            return json.dumps(untouched)
        if self.plain_cells and write.body is not None:
            return json.dumps(write.body)
        return json.dumps({"value": write.body, "deletion_ts": deletion_ts, "set": True})

    def _payload(self, write: Write, columns: dict[str, str]) -> str:
        insert = "c" if self.envelope_transformation else "i"
        op = {"insert": insert, "update": "u", "delete": "d"}[write.op]
        if self.unwrapped:
            added = {"__op": f'"{op}"', "__source_ts_us": str(write.written_us)}
            if self.rewritten_deletes:
                added["__deleted"] = '"false"'  # also for deletes: `after` is never null
            return _members(columns | added)
        source = {"ts_us": write.written_us, "ts_ms": write.written_us // 1000, "snapshot": "false"}
        return _members(
            {
                "ts_ms": "5",
                "op": f'"{op}"',
                "source": json.dumps(source),
                "after": _members(columns),
            }
        )


def _members(members: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"


page_ids = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(
        json.dumps
    ),
    st.uuids().map(lambda uuid: f'"{uuid}"'),
    st.integers(-(2**63), 2**70).map(str),
    st.sampled_from(["1.50", "1e400", "-2.5E-3", "9" * 50]),
)
bodies = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
writes = st.builds(
    Write,
    st.sampled_from(["insert", "update", "delete"]),
    page_ids,
    bodies,
    st.booleans(),
    st.integers(-1, 3) | st.integers(0, 2**62),
)
forms = st.builds(Form, *[st.booleans()] * 6)
untouched_cells = st.sampled_from([None, {"value": None, "deletion_ts": None, "set": False}])


@given(writes, forms, st.none() | st.integers(1, 2**60), untouched_cells)
def test_the_form_of_an_event_does_not_change_its_meaning(write, form, deletion_ts, untouched):
    value = form.event(write, deletion_ts, untouched)
    assert outcome_of(value.encode()) == write.expected


# --- events that only look like one of the forms


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"op": "i", "source": {}, "after": {"page_id": "p", "body": {}}}, 'cell with "value"'),
        ({"op": "u", "source": {}, "after": {"page_id": "p", "body": {"x": 1}}}, 'got "x"'),
        ({"__op": "u", "page_id": "p", "body": {"text": "b"}}, 'cell with "value"'),
        ({"page_id": {"value": "p"}, "body": {"value": "b"}}, "add.fields=op,source.ts_us"),
        ({"op": "i", "source": {}, "after": {"page_id": "p", "body": None}}, "can be ignored"),
        ({"ts_ms": 1795691804711}, "expected"),  # a heartbeat
        ({"source": {}, "databaseName": "x", "ddl": "CREATE TABLE x"}, '"op" must be'),
        ({"status": "BEGIN", "id": "571", "event_count": None}, "expected"),  # a transaction
    ],
)
def test_another_form_is_a_dead_letter_that_names_the_expected_one(event, expected):
    letter = decode(Record("cdc.pages", 0, 7, 1_000, None, as_written(event)))
    assert isinstance(letter, DeadLetter), letter
    assert expected in letter.detail


def test_a_flat_event_with_fields_named_like_debezium_s_is_flat():
    for extra in ({"after": {"who": "x"}}, {"schema": 1, "payload": 2}, {"source": {"a": 1}}):
        found = outcome_of(as_written({"page_id": "p", "body": "b", "op": "u", **extra}))
        assert found == {"op": "u", "page_id": "p", "body": "b", "written_us": None}


def test_a_write_at_time_0_has_a_time_and_is_the_oldest():
    then, now = (
        decode(Record("t", 0, offset, 9_000, None, as_written(event)))
        for offset, event in enumerate(
            {"op": "i", "source": {"ts_us": at}, "after": {"page_id": "p", "body": {"value": "b"}}}
            for at in (0, 1)
        )
    )
    assert isinstance(then, Change)
    assert isinstance(now, Change)
    assert then.version.compare(now.version) < 0
    assert now.version.compare(then.version) > 0
