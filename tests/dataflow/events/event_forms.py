"""Events for the tests of the decoder."""

from __future__ import annotations

import json
from typing import Any

from connectors.core.records import DeadLetter, Record
from dataflow.events.decoder import decode


def record_of(value: bytes | None, key: bytes | None = None, **more: Any) -> Record:
    return Record("cdc.pages", 1, 7, 1_000, key, value, **more)


def decoded(event: object, key: object = None, **more: Any):
    value = json.dumps(event).encode()
    return decode(record_of(value, None if key is None else json.dumps(key).encode(), **more))


def detail_of(value: bytes) -> str:
    dead_letter = decode(record_of(value))
    assert isinstance(dead_letter, DeadLetter), dead_letter
    assert dead_letter.reason == "undecodable"
    assert dead_letter.record.value == value
    return dead_letter.detail


def cell(value: object) -> dict[str, object]:
    return {"value": value, "deletion_ts": None, "set": True}


def envelope(op: str, body: object = None, page_id: object = "p", **source: object):
    after = {"page_id": cell(page_id), "body": body, "title": None, "_range_start": None}
    return {"ts_ms": 5, "op": op, "source": {"ts_us": 9_000_001, **source}, "after": after}
