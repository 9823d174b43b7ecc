"""A table of the Stargate stand-in: rows as they were sent, read the way Cassandra would."""

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
"""A number that float32 may print in another way than it was sent."""
PAGE_STATE = re.compile(r"(\d{1,9})\+(\d{1,9})/==")
SNAPSHOTS = 4


class BadColumnError(Exception):
    """A 400: the text is the answer's description."""


class UnhealingError(Exception):
    """A 500 that stays one."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write in a table's history.

    Attributes:
        kind: `put` or `delete`.
        page_id: The row.
        row: Its columns as JSON, empty for a delete.
        at: Monotonic seconds.
    """

    kind: Literal["put", "delete"]
    page_id: str
    row: bytes
    at: float


class Table:
    """Rows by page id.

    Args:
        name: The table's name.
        columns: CQL types of the columns beside the key `page_id`.
        history: How many writes are kept in order; 0 keeps none.

    Attributes:
        rows: Each row's columns as JSON, as it was sent.
        writes: How often each row was written.
        history: The last writes.
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
        """A row's vector as it was sent; None where there is none."""
        row = self.rows.get(page_id)
        return None if row is None else orjson.loads(row).get("vector")

    def text(self, page_id: str, column: str = "body") -> str | None:
        """A row's text column; None where there is none."""
        row = self.rows.get(page_id)
        return None if row is None else orjson.loads(row).get(column)

    def seed(self, rows: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """Puts rows in place without counting them as writes."""
        self.rows.update((page_id, orjson.dumps(values)) for page_id, values in rows)

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Waits until `count` rows are there; False if they are not in time."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.rows) >= count, timeout_s)

    def wait_until(self, done: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Waits until `done()` is true, asked after each write; False if it is not in time."""
        with self.changed:
            return self.changed.wait_for(done, timeout_s)

    def wait_for_writes(self, count: int, timeout_s: float = 10.0) -> bool:
        """Waits until `count` writes were done in all; False if they were not in time."""
        with self.changed:
            return self.changed.wait_for(lambda: self.writes.total() >= count, timeout_s)

    def check(self, values: Mapping[str, object]) -> None:
        """Checks columns the way Stargate does, which lets some wrong ones through.

        Raises:
            BadColumnError: No such column, or a value of another type.
            UnhealingError: Nothing to set, or a null in a list.
        """
        if not values:
            raise UnhealingError("Server error: no columns")
        for name, value in values.items():
            if name not in self.columns:
                raise BadColumnError(f"Unknown field name '{name}'.")
            if value is not None:
                _check_value(name, value, self.columns[name])

    def put(self, page_id: str, row: bytes) -> None:
        """Writes checked columns; those not named keep their values, as in a CQL UPDATE."""
        if len(self.columns) > 1 and page_id in self.rows:
            row = orjson.dumps(orjson.loads(self.rows[page_id]) | orjson.loads(row))
        with self.changed:
            self.rows[page_id] = row
            self.writes[page_id] += 1
            if self.history.maxlen:
                self.history.append(Write("put", page_id, row, time.monotonic()))
            self.changed.notify_all()

    def delete(self, page_id: str) -> None:
        """Deletes a row, if it is there."""
        with self.changed:
            self.rows.pop(page_id, None)
            if self.history.maxlen:
                self.history.append(Write("delete", page_id, b"", time.monotonic()))
            self.changed.notify_all()

    def read(self, page_id: str, fields: Iterable[str] = ()) -> orjson.Fragment | None:
        """A row as it comes back: with its key, all columns, floats as float32's shortest."""
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
        """The ids of one page of all rows, and the state to ask for the next one with.

        Raises:
            ValueError: The state is not one of ours.
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
    """The reverse of the state that `page` gives: like base64, it needs percent-encoding."""
    found = PAGE_STATE.fullmatch(state)
    if found is None:
        raise ValueError("no page-state of ours")
    return int(found[1]), int(found[2])


def _check_value(name: str, value: object, cql: str) -> None:
    if cql not in LISTS:
        if not isinstance(value, str):
            raise BadColumnError(f"Wrong value type for '{name}'. Expected a text.")
        return
    if not isinstance(value, list):
        raise BadColumnError(f"Wrong value type for '{name}'. Expected a list.")
    kinds = set(map(type, value))
    if type(None) in kinds:
        raise UnhealingError("Server error: null is not supported inside collections")
    if kinds - {float, int} and not all(_is_number(item) for item in value):
        raise BadColumnError(f"Wrong value provided for column '{name}'. Expected float.")


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
