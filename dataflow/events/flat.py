"""Flat events: `{"page_id","body","op"}`."""

from __future__ import annotations

from typing import Any

from connectors.core.records import Record
from dataflow.events.fields import ABSENT, kind_of, op_of, page_id_of, version_of
from dataflow.events.json_parser import UndecodableError
from dataflow.steps.changes import Change, Op, Skipped

OPS: dict[str, Op] = {"c": "c", "u": "u", "d": "d"}


def change_of(record: Record, event: dict[str, Any]) -> Change | Skipped:
    """Read a flat event.

    Raises:
        UndecodableError: A field is missing or has the wrong type.
        InexactNumberError: The page id was parsed as a float.
    """
    op = op_of(event.get("op", ABSENT), OPS)
    if op == "other":
        return Skipped(record, op, "skipped_op")
    page_id = page_id_of(event.get("page_id"))
    body = None if op == "d" else _body(op, event)
    if body is ABSENT:
        return Skipped(record, op, "skipped_unchanged")
    return Change(record, page_id, op, body, version_of(record, None))


def _body(op: Op, event: dict[str, Any]) -> Any:
    body = event.get("body", ABSENT)
    if body is None and op == "u":
        return ""
    if op == "c" and (body is ABSENT or body is None):
        raise UndecodableError('a create must have a "body"; a change of other fields is a "u"')
    if body is not ABSENT and type(body) is not str:
        raise UndecodableError(f'"body" must be text, got {kind_of(body)}')
    return body
