"""A table of the fake Stargate: it stores rows as sent and returns them as Cassandra does."""

from __future__ import annotations

import array
import itertools
import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import orjson

LISTS = ("list<float>", "frozen<list<float>>")
NOT_SHORT = re.compile(rb'\d{8}|[eE]\+?[1-9]\d|"|null')
"""Matches a number that float32 may print differently."""
PAGE_STATE = re.compile(r"(\d{1,9})\+(\d{1,9})/==")
SNAPSHOTS = 4


class BadRequestError(Exception):
    """The request gets status 400; `str()` is the description in the reply."""


class InternalError(Exception):
    """The request always gets status 500."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write in a table's history.

    Attributes:
        kind: `put` or `delete`.
        page_id: The row's id.
        row: The row's columns in JSON, empty for a delete.
        at: Monotonic time of the write, in seconds.
    """

    kind: Literal["put", "delete"]
    page_id: str
    row: bytes
    at: float


class Table:
    """Rows by page id.

    Args:
        name: The table's name.
        columns: CQL types of the columns, without the key `page_id`.
        history: Number of writes to record.

    Attributes:
        rows: The columns of each row, in JSON as sent.
        writes: Number of writes per row.
        history: The last writes, oldest first.
    """

    def __init__(self, name: str, columns: Mapping[str, str], history: int = 0) -> None:
        self.name, self.columns = name, dict(columns)
        self.rows: dict[str, bytes] = {}
        self.writes: Counter[str] = Counter()
        self.history: deque[Write] = deque(maxlen=history)
        self.changed = threading.Condition()
        self._snapshots: dict[int, list[str]] = {}
        self._numbers = itertools.count(1)

    def vector(self, page_id: str) -> list[float] | None:
        """Return a row's vector as sent, or None."""
        row = self.rows.get(page_id)
        return None if row is None else orjson.loads(row).get("vector")

    def text(self, page_id: str, column: str = "body") -> str | None:
        """Return a text column of a row, or None."""
        row = self.rows.get(page_id)
        return None if row is None else orjson.loads(row).get(column)

    def seed(self, rows: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """Add rows without counting them as writes."""
        self.rows.update((page_id, orjson.dumps(values)) for page_id, values in rows)

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Wait until the table has `count` rows; return False at a timeout."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.rows) >= count, timeout_s)

    def wait_until(self, done: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Wait until `done()` is true after a write; return False at a timeout."""
        with self.changed:
            return self.changed.wait_for(done, timeout_s)

    def wait_for_writes(self, count: int, timeout_s: float = 10.0) -> bool:
        """Wait until there were `count` writes in total; return False at a timeout."""
        with self.changed:
            return self.changed.wait_for(lambda: self.writes.total() >= count, timeout_s)

    def check(self, values: Mapping[str, object]) -> None:
        """Check columns as Stargate does, which accepts some wrong values.

        Raises:
            BadRequestError: A column does not exist, or a value has the wrong type.
            InternalError: There are no columns, or a list contains null.
        """
        if not values:
            raise InternalError("Server error: no columns")
        for name, value in values.items():
            if name not in self.columns:
                raise BadRequestError(f"Unknown field name '{name}'.")
            if value is not None:
                _check_value(name, value, self.columns[name])

    def put(self, page_id: str, row: bytes) -> None:
        """Write checked columns; the other columns keep their values, as in a CQL UPDATE."""
        if len(self.columns) > 1 and page_id in self.rows:
            row = orjson.dumps(orjson.loads(self.rows[page_id]) | orjson.loads(row))
        with self.changed:
            self.rows[page_id] = row
            self.writes[page_id] += 1
            if self.history.maxlen:
                self.history.append(Write("put", page_id, row, time.monotonic()))
            self.changed.notify_all()

    def delete(self, page_id: str) -> None:
        """Delete a row, if it exists."""
        with self.changed:
            self.rows.pop(page_id, None)
            if self.history.maxlen:
                self.history.append(Write("delete", page_id, b"", time.monotonic()))
            self.changed.notify_all()

    def read(self, page_id: str, fields: Iterable[str] = ()) -> orjson.Fragment | None:
        """Return a row with its key; floats have the shortest text of their float32 value."""
        row = self.rows.get(page_id)
        if row is None:
            return None
        wanted = list(fields) or ["page_id", *self.columns]
        if wanted == ["page_id"]:
            return orjson.Fragment(orjson.dumps({"page_id": page_id}))
        if len(self.columns) == 1 and len(wanted) == 2 and not NOT_SHORT.search(row, 12):
            return orjson.Fragment(b'{"page_id":' + orjson.dumps(page_id) + b"," + row[1:])
        values = {"page_id": page_id} | orjson.loads(row)
        return orjson.Fragment(orjson.dumps({name: _stored(values.get(name)) for name in wanted}))

    def page(self, size: int, state: str | None) -> tuple[list[str], str | None]:
        """Return the ids of one page of all rows, and the paging state of the next page.

        Raises:
            ValueError: The paging state is invalid.
        """
        number, offset = _read_state(state) if state else (next(self._numbers), 0)
        ids = self._snapshots.get(number)
        if ids is None:
            ids = self._snapshots[number] = list(self.rows)
            if len(self._snapshots) > SNAPSHOTS:
                del self._snapshots[min(self._snapshots)]
        end = offset + size
        return ids[offset:end], f"{number}+{end}/==" if end < len(ids) else None


def _read_state(state: str) -> tuple[int, int]:
    """Parse a paging state; like Stargate's base64, it needs percent-encoding."""
    match = PAGE_STATE.fullmatch(state)
    if match is None:
        raise ValueError("invalid page-state")
    return int(match[1]), int(match[2])


def _check_value(name: str, value: object, cql: str) -> None:
    if cql not in LISTS:
        if not isinstance(value, str):
            raise BadRequestError(f"Wrong value type for '{name}'. Expected a text.")
        return
    if not isinstance(value, list):
        raise BadRequestError(f"Wrong value type for '{name}'. Expected a list.")
    kinds = set(map(type, value))
    if type(None) in kinds:
        raise InternalError("Server error: null is not supported inside collections")
    if kinds - {float, int} and not all(_is_number(item) for item in value):
        raise BadRequestError(f"Wrong value provided for column '{name}'. Expected float.")


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("NaN", "Infinity", "-Infinity")
    return type(value) in (float, int)


def _stored(value: object) -> object:
    if not isinstance(value, list):
        return value
    return [_shortest(number) for number in array.array("f", map(float, value))]


def _shortest(number: float) -> float | str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        if array.array("f", [short])[0] == number:
            return short
    return float(f"{number:.9g}")
