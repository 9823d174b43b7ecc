"""Rows on their way to one service: pipelined, and in order per page.

A worker hands rows over and goes on; the event loop sends them, many at once. Writes to one page
keep their order: never two of a page are in flight, and a newer row takes the place of one that
still waits. What a checkpoint must know of them is in `unsettled`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from connectors.core.errors import Rejection
from connectors.runtime.event_loop import EventLoop

Row = TypeVar("Row")
Row_contra = TypeVar("Row_contra", contravariant=True)

MAX_OPEN_ROWS = 3072
"""Rows that a write queue holds before the worker that brings more has to wait; 30 MB of vectors.
More than the pages that one process opens: as long as a worker waits, Bytewax keeps the others
turning without a pause. In a cluster rows of peers can come besides."""

ROWS_AHEAD = 256
"""Rows that are to wait beside those of the next requests, so that a fast service never runs dry:
80 ms of 3,000 rows a second. More of them would only make snapshots larger."""


class Writer(Protocol[Row_contra]):
    """A service that takes rows.

    Attributes:
        rows_per_request: The most rows of one call.
        concurrency: The most calls in flight.
    """

    rows_per_request: int
    concurrency: int

    async def write(self, rows: Sequence[Row_contra]) -> dict[int, Rejection]:
        """Write rows; returns when each is acknowledged or, by its index, given up."""
        ...


@dataclass(slots=True)
class _Entry(Generic[Row]):
    bucket: str
    number: int
    key: str
    row: Row


class WriteQueue(Generic[Row]):
    """The rows of one process that are on their way to one service.

    Args:
        writer: Sends them.
        key: What identifies the page of a row.
        on_done: Awaited once for each row that ends, with its refusal if it was given up; until
            it returns the row is open.
        event_loop: The loop on which all of this happens.
        max_open: Rows at which `put` waits.
    """

    def __init__(
        self,
        writer: Writer[Row],
        key: Callable[[Row], str],
        on_done: Callable[[Row, Rejection | None], Awaitable[None]],
        event_loop: EventLoop,
        max_open: int = MAX_OPEN_ROWS,
    ) -> None:
        self._writer = writer
        self._key = key
        self._on_done = on_done
        self._event_loop = event_loop
        self._max_open = max_open
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # by bucket and number, in the order they came; guarded by _lock, as all up to the blank
        self._open: dict[str, dict[int, Row]] = {}
        self._total = 0
        self._number = 0
        self._waiters = 0

        # the rest, and `has_plenty`, belongs to the loop's thread
        self._plenty = writer.rows_per_request * writer.concurrency + ROWS_AHEAD
        self._waiting: OrderedDict[str, _Entry[Row]] = OrderedDict()
        self._behind: dict[str, _Entry[Row]] = {}  # pages of which a row is in flight
        self._in_flight: set[str] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._senders = 0

    @property
    def open_rows(self) -> int:
        """Rows that are not settled."""
        return self._total

    @property
    def has_plenty(self) -> bool:
        """Whether more rows wait than the service needs to be busy for a while."""
        return len(self._waiting) >= self._plenty

    def put(self, bucket: str, rows: Sequence[Row], *, wait: bool = True) -> None:
        """Take rows of one bucket; from a worker thread, which waits while too many are open.

        Args:
            bucket: Whose they are.
            rows: The rows, those of one page in order.
            wait: Whether it does wait: rows of a snapshot must not hold up the start.
        """
        keys = [self._key(row) for row in rows]
        with self._lock:
            if wait:
                self._wait_until(lambda: self._total < self._max_open)
            numbered = enumerate(zip(keys, rows, strict=True), self._number)
            entries = [_Entry(bucket, number, key, row) for number, (key, row) in numbered]
            self._number += len(rows)
            self._total += len(rows)
            self._open.setdefault(bucket, {}).update((e.number, e.row) for e in entries)
        self._event_loop.call(self._add, entries)

    def unsettled(self, bucket: str) -> list[Row]:
        """The rows of a bucket that are not settled, in the order they came."""
        with self._lock:
            return list(self._open.get(bucket, {}).values())

    def wait_settled(self, bucket: str) -> None:
        """Wait until no row of a bucket is open; from a worker thread."""
        with self._lock:
            self._wait_until(lambda: not self._open.get(bucket))

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        self._waiters += 1
        try:
            # A stop needs no look here: what is in flight is awaited, and the watchdog ends
            # a process whose services do not answer.
            self._changed.wait_for(condition)
        finally:
            self._waiters -= 1

    def _settled(self, entry: _Entry[Row]) -> None:
        with self._lock:
            del self._open[entry.bucket][entry.number]
            self._total -= 1
            if self._waiters:
                self._changed.notify_all()

    def _add(self, entries: Sequence[_Entry[Row]]) -> None:
        for entry in entries:
            queue = self._behind if entry.key in self._in_flight else self._waiting
            replaced = queue.get(entry.key)
            queue[entry.key] = entry
            if replaced is not None:
                self._event_loop.spawn(self._end(replaced, None))
        self._wake()

    def _wake(self) -> None:
        wanted = -(-len(self._waiting) // self._writer.rows_per_request)
        while wanted > 0 and self._idle:
            waker = self._idle.popleft()
            if not waker.done():
                waker.set_result(None)
            wanted -= 1
        while wanted > 0 and self._senders < self._writer.concurrency:
            self._senders += 1
            self._event_loop.spawn(self._send_for_ever())
            wanted -= 1

    async def _send_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = self._take()
            if not batch:
                waker = loop.create_future()
                self._idle.append(waker)
                await waker
                continue
            refused = await self._writer.write([entry.row for entry in batch])
            for index, entry in enumerate(batch):
                await self._end(entry, refused.get(index))
            self._release(batch)

    def _take(self) -> list[_Entry[Row]]:
        batch: list[_Entry[Row]] = []
        while self._waiting and len(batch) < self._writer.rows_per_request:
            key, entry = self._waiting.popitem(last=False)
            self._in_flight.add(key)
            batch.append(entry)
        return batch

    def _release(self, batch: list[_Entry[Row]]) -> None:
        for entry in batch:
            self._in_flight.discard(entry.key)
            if (next_entry := self._behind.pop(entry.key, None)) is not None:
                self._waiting[entry.key] = next_entry

    async def _end(self, entry: _Entry[Row], refusal: Rejection | None) -> None:
        await self._on_done(entry.row, refusal)
        self._settled(entry)
