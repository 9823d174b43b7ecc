"""Step "decode": from a record's bytes to a change of a page.

The forms are told apart by the shape of each event, never by a setting (CONTRACT, Input):

    {"page_id","body","op"}                      flat
    {"op","source","after":{column: cell}}       Debezium's envelope, cells {value,deletion_ts,set}
    {"schema","payload": one of these}           the same with its schema beside it
    {column: cell or value, "__op"}              unwrapped by ExtractNewRecordState
    null                                         tombstone

In a Debezium event of Cassandra a column that the statement did not touch is null, and a column
that was deleted or set to null is a cell whose value is null (recorded: tests/samples).
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from connectors.records import DeadLetter, Record
from dataflow.changes import Change, Op, Skipped, Version

MAX_EVENT_BYTES = 1024 * 1024
"""Larger events are not pages that anybody reads; Kafka's own default limit is the same."""

Decoded = Change | Skipped | DeadLetter

_OPS: dict[str, Op] = {"c": "c", "i": "c", "u": "u", "d": "d"}
_ABSENT = object()
_EXPECTED = (
    'expected {"page_id","body","op"} or a Debezium event with "op", "source" and "after"'
)


class Undecodable(Exception):
    """An event that is no change of a page; its text says what was expected."""


def decode(record: Record) -> Decoded:
    """Read one event.

    Returns:
        The change, or `Skipped` for an event that asks for nothing, or an `undecodable`
        dead letter; never an exception, whatever the bytes are.
    """
    try:
        return _decode(record)
    except Undecodable as error:
        return DeadLetter(record, "undecodable", str(error))


def _decode(record: Record) -> Change | Skipped:
    if record.value is None:
        # A delete is told by its own event; the tombstone behind it has no write time of its
        # own, and taken for a delete it would overtake a re-insert.
        return Skipped(record, "d", "skipped_op")
    event = _unwrapped(_object(record.value))
    if event is None:
        return Skipped(record, "d", "skipped_op")
    if "__op" in event:
        return _from_columns(record, event["__op"], event, _unwrapped_time_us(event))
    if "after" in event or isinstance(event.get("source"), dict):
        return _from_envelope(record, event)
    if "op" in event or "page_id" in event:
        return _from_flat(record, event)
    raise Undecodable(f"{_EXPECTED}, got an object with {_names(event)}")


def _object(value: bytes) -> dict[str, Any]:
    if len(value) > MAX_EVENT_BYTES:
        raise Undecodable(f"{len(value)} bytes are more than the limit of {MAX_EVENT_BYTES}")
    if not value:
        raise Undecodable("the value is empty (0 bytes)")
    if value[0] == 0:
        raise Undecodable("a schema-registry frame (first byte 0); JSON is expected")
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON: {error}") from None
    if not isinstance(event, dict):
        raise Undecodable(f"{_EXPECTED}, got {_kind(event)}")
    return event


def _unwrapped(event: dict[str, Any]) -> dict[str, Any] | None:
    if not ("schema" in event and "payload" in event):
        return event
    payload = event["payload"]
    if payload is not None and not isinstance(payload, dict):
        raise Undecodable(f'"payload" must be an object, got {_kind(payload)}')
    return payload


def _from_flat(record: Record, event: dict[str, Any]) -> Change | Skipped:
    op = _op(event.get("op", _ABSENT))
    if op == "other":
        return Skipped(record, op, "skipped_op")
    page_id = _page_id(event.get("page_id"), record.value)
    body = None if op == "d" else _flat_body(op, event)
    if body is _ABSENT:
        return Skipped(record, op, "skipped_unchanged")
    return Change(record, page_id, op, body, _version(record, None))


def _flat_body(op: Op, event: dict[str, Any]) -> Any:
    body = event.get("body", _ABSENT)
    if body is None and op == "u":
        return ""
    if op == "c" and (body is _ABSENT or body is None):
        raise Undecodable('a create must have a "body"')
    if body is not _ABSENT and not isinstance(body, str):
        raise Undecodable(f'"body" must be text, got {_kind(body)}')
    return body


def _from_envelope(record: Record, event: dict[str, Any]) -> Change | Skipped:
    source = event.get("source")
    written_us = _time_us(source, "") if isinstance(source, dict) else None
    after = event.get("after")
    if after is not None and not isinstance(after, dict):
        raise Undecodable(f'"after" must be an object of columns, got {_kind(after)}')
    return _from_columns(record, event.get("op", _ABSENT), after or {}, written_us)


def _from_columns(
    record: Record, raw_op: Any, columns: dict[str, Any], written_us: int | None
) -> Change | Skipped:
    op = _op(raw_op)
    if op == "other":
        return Skipped(record, op, "skipped_op")
    page_id = _page_id(_cell(columns.get("page_id")) or _key_page_id(record), record.value)
    body = None if op == "d" else _column_body(op, columns)
    if body is _ABSENT:
        return Skipped(record, op, "skipped_unchanged")
    return Change(record, page_id, op, body, _version(record, written_us))


def _column_body(op: Op, columns: dict[str, Any]) -> Any:
    if "body" not in columns:
        raise Undecodable(f'the table has no column "body", only {_names(columns)}')
    cell = columns["body"]
    if cell is None:
        if op == "c":
            raise Undecodable('an insert must set "body"')
        return _ABSENT
    body = _cell(cell)
    if body is not None and not isinstance(body, str):
        raise Undecodable(f'"body" must be text, got {_kind(body)}')
    return body or ""


def _cell(cell: Any) -> Any:
    """A column's value: Cassandra's cells are wrapped, unwrapped forms may be plain."""
    return cell.get("value") if isinstance(cell, dict) else cell


def _key_page_id(record: Record) -> Any:
    """The page id of a record's key, for deletes without columns."""
    if not record.key:
        return None
    try:
        key = orjson.loads(record.key)
    except orjson.JSONDecodeError:
        return None
    if isinstance(key, dict) and isinstance(key.get("payload"), dict):
        key = key["payload"]
    return _cell(key.get("page_id")) if isinstance(key, dict) else None


def _op(raw: Any) -> Op:
    if not isinstance(raw, str):
        wanted = '"op" must be one of "c", "u", "d"'
        raise Undecodable(wanted if raw is _ABSENT else f"{wanted}, got {_kind(raw)}")
    return _OPS.get(raw, "other")


def _page_id(raw: Any, value: bytes | None) -> str:
    if isinstance(raw, float):
        raw = _number_as_text(value or b"")
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        found = "none" if raw is None else _kind(raw)
        raise Undecodable(f'"page_id" must be text, a number or a UUID, got {found}')
    if not raw:
        raise Undecodable('"page_id" must not be empty')
    if "\0" in raw:
        raise Undecodable('"page_id" must not contain NUL: Stargate cannot store it')
    return raw


def _number_as_text(value: bytes) -> Any:
    """A page id that is a fraction or past 64 bits, digit by digit as it was written."""
    event = json.loads(value, parse_float=str, parse_int=str)
    event = event.get("payload", event)
    columns = event.get("after") or event
    return _cell(columns.get("page_id"))


def _unwrapped_time_us(event: dict[str, Any]) -> int | None:
    return _time_us(event, "__source_")


def _time_us(fields: dict[str, Any], prefix: str) -> int | None:
    for name, factor in (("ts_us", 1), ("ts_ms", 1000)):
        time = fields.get(prefix + name)
        if type(time) is int and 0 < time * factor < 2**63:
            return time * factor
    return None


def _version(record: Record, written_us: int | None) -> Version:
    partition, offset = record.partition, record.offset
    if record.replay_of is not None:  # a replayed letter is as old as its original
        _, partition_text, offset_text = record.replay_of.rsplit(":", 2)
        partition, offset = int(partition_text), int(offset_text)
    return Version(written_us, record.timestamp_ms, partition, record.era, offset)


def _names(event: dict[str, Any]) -> str:
    names = ", ".join(f'"{name[:40]}"' for name in list(event)[:6])
    return names or "no fields"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object")
