"""The fields that every form of event has: page id, operation and write time."""

from __future__ import annotations

from typing import Any, Final

from connectors.core.records import Record, parse_origin
from dataflow.events.json_parser import Digits, UndecodableError
from dataflow.steps.changes import ANY_ERA, Op, Version

ABSENT: Final[Any] = object()
"""Marks a field that the event does not have; a field that is null is None."""


class InexactNumberError(Exception):
    """The page id is a number that a float cannot represent exactly."""


def op_of(raw: object, known: dict[str, Op]) -> Op:
    """Return the operation of an event; `other` for one that the form does not know.

    Raises:
        UndecodableError: `raw` is not text.
    """
    if type(raw) is not str:
        expected = '"op" must be one of "c", "u", "d"'
        raise UndecodableError(expected if raw is ABSENT else f"{expected}, got {kind_of(raw)}")
    return known.get(raw, "other")


def page_id_of(raw: object) -> str:
    """Return the page id as text, digit by digit where it is a number.

    Raises:
        UndecodableError: It is missing, empty, of another type, or contains NUL.
        InexactNumberError: It was parsed as a float.
    """
    if isinstance(raw, float):
        raise InexactNumberError
    if type(raw) in (int, Digits):
        raw = str(raw)
    if not isinstance(raw, str):
        got = "none" if raw is None else kind_of(raw)
        raise UndecodableError(f'"page_id" must be text, a number or a UUID, got {got}')
    if not raw:
        raise UndecodableError('"page_id" must not be empty')
    if "\0" in raw:
        raise UndecodableError('"page_id" must not contain NUL, which the store cannot save')
    return raw


def write_time_us(fields: dict[str, Any], prefix: str = "") -> int | None:
    """Return the time of the database write in microseconds since 1970, None if unknown.

    A time before 1970 counts as 0. 0 is a time like any other: `USING TIMESTAMP 0` is older than
    all other writes.
    """
    for name, factor in (("ts_us", 1), ("ts_ms", 1000)):
        time = fields.get(prefix + name)
        if type(time) is int and time * factor < 2**63:
            return max(time * factor, 0)
    return None


def version_of(record: Record, written_us: int | None) -> Version:
    """Return the version of a change; a replayed dead letter is as old as its original.

    Raises:
        UndecodableError: The record's replay header is not an origin.
    """
    partition, era, offset = record.partition, record.era, record.offset
    if record.replay_of is not None:
        origin = parse_origin(record.replay_of)
        if origin is None:
            raise UndecodableError("the replay header must be topic:partition:offset")
        _, partition, offset = origin
        era = ANY_ERA
    return Version(written_us, record.timestamp_ms, partition, era, offset)


def names_in(event: dict[str, Any]) -> str:
    """Return the first field names of an event, for a dead letter's detail."""
    names = ", ".join(f'"{name[:40]}"' for name in list(event)[:6])
    return names or "no fields"


def kind_of(value: object) -> str:
    """Return the JSON type of a value, for a dead letter's detail."""
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
