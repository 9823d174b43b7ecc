"""From a record's bytes to a change of a page.

The shape of each event shows its form; no setting selects it:

    {"page_id","body","op"}                      flat
    {"op","source","after":{column: cell}}       Debezium's envelope, cells {value,deletion_ts,set}
    {"schema","payload": one of these}           the same with its schema beside it
    {column: cell or value, "__op"}              unwrapped by ExtractNewRecordState
    null                                         tombstone
"""

from __future__ import annotations

from typing import Any

from connectors.core.records import DeadLetter, Record
from dataflow.events import debezium, flat
from dataflow.events.fields import InexactNumberError, kind_of, names_in
from dataflow.events.json_parser import UndecodableError, parsed, parsed_exactly
from dataflow.steps.changes import Change, Skipped

Decoded = Change | Skipped | DeadLetter

_EXPECTED = 'expected {"page_id","body","op"} or a Debezium event with "op", "source" and "after"'
_NO_OP = (
    'an unwrapped Debezium event without "__op": give the ExtractNewRecordState transformation '
    "add.fields=op,source.ts_us"
)


def decode(record: Record) -> Decoded:
    """Read one event; never raises, whatever the bytes are.

    Returns:
        The change; or `Skipped` for an event that needs no work; or an `undecodable` dead letter.
    """
    try:
        return _decode(record)
    except UndecodableError as error:
        return DeadLetter(record, "undecodable", str(error))


def _decode(record: Record) -> Change | Skipped:
    if record.value is None:
        # A delete has an event of its own. The tombstone behind it has no write time: counted as
        # a delete, it would win over a re-insert.
        return Skipped(record, "d", "skipped_op")
    event = parsed(record.value)
    try:
        return _by_form(record, event)
    except InexactNumberError:
        return _by_form(record, parsed_exactly(record.value))


def _by_form(record: Record, value: object) -> Change | Skipped:
    event = _without_schema(_object(value))
    if event is None:
        return Skipped(record, "d", "skipped_op")
    if "__op" in event:
        return debezium.change_of_unwrapped(record, event)
    if debezium.is_envelope(event):
        return debezium.change_of_envelope(record, event)
    if "op" not in event and isinstance(event.get("page_id"), dict):
        raise UndecodableError(_NO_OP)
    if "op" in event or "page_id" in event:
        return flat.change_of(record, event)
    raise UndecodableError(f"{_EXPECTED}, got an object with {names_in(event)}")


def _object(event: object) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise UndecodableError(f"{_EXPECTED}, got {kind_of(event)}")
    return event


def _without_schema(event: dict[str, Any]) -> dict[str, Any] | None:
    if "page_id" in event or not ("schema" in event and "payload" in event):
        return event
    payload = event["payload"]
    if payload is not None and not isinstance(payload, dict):
        raise UndecodableError(f'"payload" must be an object, got {kind_of(payload)}')
    return payload
