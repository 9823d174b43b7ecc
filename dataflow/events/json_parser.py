"""Parses the JSON of an event, with exact numbers where needed."""

from __future__ import annotations

import codecs
import json
from typing import NoReturn

import orjson

MAX_EVENT_BYTES = 1024 * 1024
"""Longest event; Kafka has the same limit by default."""

_INT64_DIGITS = 20  # with the sign


class UndecodableError(Exception):
    """An event is not a change of a page; the text names what was expected."""


class Digits(str):
    """A number with a fraction, an exponent or many digits, as the event has it."""

    __slots__ = ()


def parsed(value: bytes) -> object:
    """Parse JSON; numbers with a fraction or beyond 64 bits become floats.

    Raises:
        UndecodableError: The value is not JSON, or too large.
    """
    if len(value) > MAX_EVENT_BYTES:
        raise UndecodableError(f"{len(value)} bytes are more than the limit of {MAX_EVENT_BYTES}")
    if not value:
        raise UndecodableError("the value is empty (0 bytes)")
    if value[0] == 0:
        raise UndecodableError("a schema-registry frame (first byte 0); JSON is expected")
    if value.startswith(codecs.BOM_UTF8):
        raise UndecodableError("not JSON: a byte order mark comes first; write UTF-8 without one")
    try:
        event: object = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if "infinity" in str(error):  # 1e400 is JSON, but more than a float holds
            return parsed_exactly(value)
        raise UndecodableError(f"not JSON: {error}") from None
    return event


def parsed_exactly(value: bytes) -> object:
    """Parse JSON with exact numbers; ten times slower than `parsed`.

    Raises:
        UndecodableError: The value is not JSON.
    """
    try:
        event: object = json.loads(
            value.decode(), parse_int=_integer, parse_float=Digits, parse_constant=_reject_constant
        )
        json.dumps(event, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"not JSON: {error}") from None
    return event


def _integer(text: str) -> int | Digits:
    """Return an integer, or its digits if Python refuses its length."""
    return int(text) if len(text) <= _INT64_DIGITS else Digits(text)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
