"""Debezium's events of Cassandra: envelopes, and those that ExtractNewRecordState unwraps.

A column that the statement did not touch is null. A column that was deleted or set to null is a
cell whose value is null (recorded: tests/samples).
"""

from __future__ import annotations

from typing import Any

from connectors.core.records import Record
from dataflow.events import flat
from dataflow.events.fields import (
    ABSENT,
    kind_of,
    names_in,
    op_of,
    page_id_of,
    version_of,
    write_time_us,
)
from dataflow.events.json_parser import UndecodableError, parsed_exactly
from dataflow.steps.changes import Change, Op, Skipped

OPS: dict[str, Op] = {**flat.OPS, "i": "c"}

INSERT_WITHOUT_BODY = (
    'an insert that does not set "body": the page has no text to embed. If a later update sets it, '
    'this dead letter can be ignored. Otherwise write "body" in the INSERT'
)


def is_envelope(event: dict[str, Any]) -> bool:
    """Return whether an event is an envelope; a flat event may have fields of the same names."""
    has_source = isinstance(event.get("source"), dict)
    if "page_id" in event:
        return has_source and isinstance(event.get("after"), dict)
    return has_source or "after" in event


def change_of_envelope(record: Record, event: dict[str, Any]) -> Change | Skipped:
    """Read `{"op","source","after":{column: cell}}`.

    Raises:
        UndecodableError: A field is missing or has the wrong type.
        InexactNumberError: The page id was parsed as a float.
    """
    source = event.get("source")
    written_us = write_time_us(source) if isinstance(source, dict) else None
    after = event.get("after")
    if after is not None and not isinstance(after, dict):
        raise UndecodableError(f'"after" must be an object of columns, got {kind_of(after)}')
    return _change_of_columns(record, event.get("op", ABSENT), after or {}, written_us)


def change_of_unwrapped(record: Record, event: dict[str, Any]) -> Change | Skipped:
    """Read `{column: cell or value, "__op", "__source_ts_us"}`.

    Raises:
        UndecodableError: A field is missing or has the wrong type.
        InexactNumberError: The page id was parsed as a float.
    """
    return _change_of_columns(record, event["__op"], event, write_time_us(event, "__source_"))


def _change_of_columns(
    record: Record, raw_op: object, columns: dict[str, Any], written_us: int | None
) -> Change | Skipped:
    op = op_of(raw_op, OPS)
    if op == "other":
        return Skipped(record, op, "skipped_op")
    raw_id = _cell_value(columns.get("page_id"))
    page_id = page_id_of(_page_id_in_key(record) if raw_id is None else raw_id)
    body = None if op == "d" else _body(op, columns)
    if body is ABSENT:
        return Skipped(record, op, "skipped_unchanged")
    return Change(record, page_id, op, body, version_of(record, written_us))


def _body(op: Op, columns: dict[str, Any]) -> Any:
    if "body" not in columns:
        raise UndecodableError(f'the table has no column "body", only {names_in(columns)}')
    cell = columns["body"]
    if cell is None or (isinstance(cell, dict) and cell.get("set") is False):
        if op == "c":
            raise UndecodableError(INSERT_WITHOUT_BODY)
        return ABSENT
    if isinstance(cell, dict) and "value" not in cell:
        raise UndecodableError(f'"body" must be text or a cell with "value", got {names_in(cell)}')
    body = _cell_value(cell)
    if body is not None and type(body) is not str:
        raise UndecodableError(f'"body" must be text, got {kind_of(body)}')
    return body or ""


def _cell_value(cell: Any) -> Any:
    """Return a column's value, from a cell or, in an unwrapped event, from a plain value."""
    return cell.get("value") if isinstance(cell, dict) else cell


def _page_id_in_key(record: Record) -> Any:
    """Return the page id in a record's key, for deletes without columns."""
    if not record.key:
        return None
    try:
        key = parsed_exactly(record.key)
    except UndecodableError:
        return None
    if isinstance(key, dict) and isinstance(key.get("payload"), dict):
        key = key["payload"]
    return _cell_value(key.get("page_id")) if isinstance(key, dict) else None
