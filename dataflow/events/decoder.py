"""Step "decode": from a record's bytes to a change of a page.

The forms are told apart by the shape of each event, never by a setting:

    {"page_id","body","op"}                      flat
    {"op","source","after":{column: cell}}       Debezium's envelope, cells {value,deletion_ts,set}
    {"schema","payload": one of these}           the same with its schema beside it
    {column: cell or value, "__op"}              unwrapped by ExtractNewRecordState
    null                                         tombstone

In a Debezium event of Cassandra a column that the statement did not touch is null, and a column
that was deleted or set to null is a cell whose value is null (recorded: tests/samples).
"""

from __future__ import annotations

from typing import Any

from connectors.core.records import DeadLetter, Record, parse_origin
from dataflow.events.json_parser import Digits, UndecodableError, parsed, parsed_exactly
from dataflow.steps.changes import ANY_ERA, Change, Op, Skipped, Version

Decoded = Change | Skipped | DeadLetter

_FLAT_OPS: dict[str, Op] = {"c": "c", "u": "u", "d": "d"}
_DEBEZIUM_OPS: dict[str, Op] = {**_FLAT_OPS, "i": "c"}
_ABSENT = object()
_EXPECTED = 'expected {"page_id","body","op"} or a Debezium event with "op", "source" and "after"'
_BARE_INSERT = (
    'an insert that does not set "body": the page has no text to embed. If an update sets it '
    'later, that is enough and this letter can be ignored; else write "body" in the INSERT'
)
_NO_OP = (
    'an unwrapped Debezium event without "__op": give the ExtractNewRecordState transformation '
    "add.fields=op,source.ts_us"
)


class _InexactError(Exception):
    """The page id is a number that a float does not hold as it was written."""


def decode(record: Record) -> Decoded:
    """Read one event.

    Returns:
        The change, or `Skipped` for an event that asks for nothing, or an `undecodable`
        dead letter; never an exception, whatever the bytes are.
    """
    try:
        return _decode(record)
    except UndecodableError as error:
        return DeadLetter(record, "undecodable", str(error))


def can_be_read(record: Record) -> bool:
    """Whether a record is an event, and not an undecodable dead letter."""
    return not isinstance(decode(record), DeadLetter)


def _decode(record: Record) -> Change | Skipped:
    if record.value is None:
        # A delete is told by its own event; the tombstone behind it has no write time of its
        # own, and taken for a delete it would overtake a re-insert.
        return Skipped(record, "d", "skipped_op")
    event = parsed(record.value)
    try:
        return _from_any(record, event)
    except _InexactError:
        return _from_any(record, parsed_exactly(record.value))


def _from_any(record: Record, value: object) -> Change | Skipped:
    event = _unwrapped(_object(value))
    if event is None:
        return Skipped(record, "d", "skipped_op")
    if "__op" in event:
        return _from_columns(record, event["__op"], event, _time_us(event, "__source_"))
    if _is_envelope(event):
        return _from_envelope(record, event)
    if "op" not in event and isinstance(event.get("page_id"), dict):
        raise UndecodableError(_NO_OP)
    if "op" in event or "page_id" in event:
        return _from_flat(record, event)
    raise UndecodableError(f"{_EXPECTED}, got an object with {_names(event)}")


def _is_envelope(event: dict[str, Any]) -> bool:
    """Whether it is Debezium's: a flat event may have fields of these names beside its own."""
    has_source = isinstance(event.get("source"), dict)
    if "page_id" in event:
        return has_source and isinstance(event.get("after"), dict)
    return has_source or "after" in event


def _object(event: object) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise UndecodableError(f"{_EXPECTED}, got {_kind(event)}")
    return event


def _unwrapped(event: dict[str, Any]) -> dict[str, Any] | None:
    if "page_id" in event or not ("schema" in event and "payload" in event):
        return event
    payload = event["payload"]
    if payload is not None and not isinstance(payload, dict):
        raise UndecodableError(f'"payload" must be an object, got {_kind(payload)}')
    return payload


def _from_flat(record: Record, event: dict[str, Any]) -> Change | Skipped:
    op = _op(event.get("op", _ABSENT), _FLAT_OPS)
    if op == "other":
        return Skipped(record, op, "skipped_op")
    page_id = _page_id(event.get("page_id"))
    body = None if op == "d" else _flat_body(op, event)
    if body is _ABSENT:
        return Skipped(record, op, "skipped_unchanged")
    return Change(record, page_id, op, body, _version(record, None))


def _flat_body(op: Op, event: dict[str, Any]) -> Any:
    body = event.get("body", _ABSENT)
    if body is None and op == "u":
        return ""
    if op == "c" and (body is _ABSENT or body is None):
        raise UndecodableError('a create must have a "body"; a change of other fields is a "u"')
    if body is not _ABSENT and type(body) is not str:
        raise UndecodableError(f'"body" must be text, got {_kind(body)}')
    return body


def _from_envelope(record: Record, event: dict[str, Any]) -> Change | Skipped:
    source = event.get("source")
    written_us = _time_us(source, "") if isinstance(source, dict) else None
    after = event.get("after")
    if after is not None and not isinstance(after, dict):
        raise UndecodableError(f'"after" must be an object of columns, got {_kind(after)}')
    return _from_columns(record, event.get("op", _ABSENT), after or {}, written_us)


def _from_columns(
    record: Record, raw_op: Any, columns: dict[str, Any], written_us: int | None
) -> Change | Skipped:
    op = _op(raw_op, _DEBEZIUM_OPS)
    if op == "other":
        return Skipped(record, op, "skipped_op")
    raw_id = _cell(columns.get("page_id"))
    page_id = _page_id(_key_page_id(record) if raw_id is None else raw_id)
    body = None if op == "d" else _column_body(op, columns)
    if body is _ABSENT:
        return Skipped(record, op, "skipped_unchanged")
    return Change(record, page_id, op, body, _version(record, written_us))


def _column_body(op: Op, columns: dict[str, Any]) -> Any:
    if "body" not in columns:
        raise UndecodableError(f'the table has no column "body", only {_names(columns)}')
    cell = columns["body"]
    if cell is None or (isinstance(cell, dict) and cell.get("set") is False):
        if op == "c":
            raise UndecodableError(_BARE_INSERT)
        return _ABSENT
    if isinstance(cell, dict) and "value" not in cell:
        raise UndecodableError(f'"body" must be text or a cell with "value", got {_names(cell)}')
    body = _cell(cell)
    if body is not None and type(body) is not str:
        raise UndecodableError(f'"body" must be text, got {_kind(body)}')
    return body or ""


def _cell(cell: Any) -> Any:
    """A column's value: Cassandra's cells are wrapped, unwrapped forms may be plain."""
    return cell.get("value") if isinstance(cell, dict) else cell


def _key_page_id(record: Record) -> Any:
    """The page id of a record's key, for deletes without columns."""
    if not record.key:
        return None
    try:
        key = parsed_exactly(record.key)
    except UndecodableError:
        return None
    if isinstance(key, dict) and isinstance(key.get("payload"), dict):
        key = key["payload"]
    return _cell(key.get("page_id")) if isinstance(key, dict) else None


def _op(raw: Any, ops: dict[str, Op]) -> Op:
    if type(raw) is not str:
        wanted = '"op" must be one of "c", "u", "d"'
        raise UndecodableError(wanted if raw is _ABSENT else f"{wanted}, got {_kind(raw)}")
    return ops.get(raw, "other")


def _page_id(raw: Any) -> str:
    if isinstance(raw, float):
        raise _InexactError
    if type(raw) in (int, Digits):
        raw = str(raw)
    if not isinstance(raw, str):
        found = "none" if raw is None else _kind(raw)
        raise UndecodableError(f'"page_id" must be text, a number or a UUID, got {found}')
    if not raw:
        raise UndecodableError('"page_id" must not be empty')
    if "\0" in raw:
        raise UndecodableError('"page_id" must not contain NUL: Stargate cannot store it')
    return raw


def _time_us(fields: dict[str, Any], prefix: str) -> int | None:
    """The write's own time, microseconds since 1970; a time before that counts as 0.

    0 is a time like others: `USING TIMESTAMP 0` is older than all, not without a time.
    """
    for name, factor in (("ts_us", 1), ("ts_ms", 1000)):
        time = fields.get(prefix + name)
        if type(time) is int and time * factor < 2**63:
            return max(time * factor, 0)
    return None


def _version(record: Record, written_us: int | None) -> Version:
    partition, era, offset = record.partition, record.era, record.offset
    if record.replay_of is not None:  # a replayed letter is as old as its original
        origin = parse_origin(record.replay_of)
        if origin is None:
            raise UndecodableError("the header that names its origin is no topic:partition:offset")
        _, partition, offset = origin
        era = ANY_ERA
    return Version(written_us, record.timestamp_ms, partition, era, offset)


def _names(event: dict[str, Any]) -> str:
    names = ", ".join(f'"{name[:40]}"' for name in list(event)[:6])
    return names or "no fields"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return _KINDS.get(type(value), "an object")


_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    Digits: "a number",
    str: "text",
    list: "a list",
}
