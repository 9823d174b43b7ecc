"""The rows that wait for one service or are in flight: pipelined, and in order for each page.

A worker adds rows and continues; the event loop sends them, many requests at a time. A page never
has two rows in flight, and a newer row replaces one that still waits. `unsettled` returns the rows
that a snapshot must hold.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from connectors.core.errors import Rejection
from connectors.delivery.writer import Writer
from connectors.runtime.event_loop import EventLoop

Row = TypeVar("Row")

MAX_OPEN_ROWS = 3072
"""Open rows of a queue from which a worker that adds more must wait: 30 MB of vectors. The limit is
higher than that of one process's open pages, because Bytewax busy-waits in the other workers while
one worker waits. In a cluster, the rows of other processes are added."""

BACKLOG_ROWS = 256
"""Rows that wait besides those of the next requests, so that a fast service always has work: 80 ms
at 3,000 rows a second. More rows would only make snapshots larger."""


@dataclass(slots=True)
class _Entry(Generic[Row]):
    bucket: str
    number: int
    key: str
    row: Row


class WriteQueue(Generic[Row]):
    """The rows of one process for one service.

    Args:
        writer: Sends rows to the service.
        key: Returns what identifies the page of a row.
        on_done: Awaited for each row that the service acknowledged (None) or rejected; the row is
            open until it returns.
        event_loop: Where rows are sent.
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

        # guarded by the lock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: dict[str, dict[int, Row]] = {}  # by bucket and number, in order
        self._total = 0
        self._number = 0
        self._blocked_workers = 0

        # used by the event loop only
        self._enough = writer.rows_per_request * writer.concurrency + BACKLOG_ROWS
        self._waiting: OrderedDict[str, _Entry[Row]] = OrderedDict()  # by page
        self._next: dict[str, _Entry[Row]] = {}  # rows of pages that have a row in flight
        self._in_flight: set[str] = set()
        self._idle_senders: deque[asyncio.Future[None]] = deque()
        self._senders = 0

    @property
    def open_rows(self) -> int:
        """Rows that are not settled."""
        return self._total

    @property
    def has_backlog(self) -> bool:
        """Whether more rows wait than the service needs to stay busy. Event loop only."""
        return len(self._waiting) >= self._enough

    # --- for workers

    def put(self, bucket: str, rows: Sequence[Row], *, wait: bool = True) -> None:
        """Add rows of one bucket; blocks while too many rows are open.

        Args:
            bucket: Their bucket.
            rows: The rows; those of one page in order.
            wait: Whether to block; False for the rows of a snapshot, at the start.
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
        """Return the open rows of a bucket, in the order in which they were added."""
        with self._lock:
            return list(self._open.get(bucket, {}).values())

    def wait_settled(self, bucket: str) -> None:
        """Block until no row of a bucket is open."""
        with self._lock:
            self._wait_until(lambda: not self._open.get(bucket))

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        self._blocked_workers += 1
        try:
            # A stop does not end this: it waits for rows in flight, and the watchdog ends a process
            # whose services do not respond.
            self._changed.wait_for(condition)
        finally:
            self._blocked_workers -= 1

    # --- on the event loop

    def _add(self, entries: Sequence[_Entry[Row]]) -> None:
        for entry in entries:
            queue = self._next if entry.key in self._in_flight else self._waiting
            replaced = queue.get(entry.key)
            queue[entry.key] = entry
            if replaced is not None:
                self._event_loop.spawn(self._end(replaced, None))
        self._wake_senders()

    def _wake_senders(self) -> None:
        wanted = -(-len(self._waiting) // self._writer.rows_per_request)
        while wanted > 0 and self._idle_senders:
            sender = self._idle_senders.popleft()
            if not sender.done():
                sender.set_result(None)
            wanted -= 1
        while wanted > 0 and self._senders < self._writer.concurrency:
            self._senders += 1
            self._event_loop.spawn(self._send_forever())
            wanted -= 1

    async def _send_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = self._take_batch()
            if not batch:
                woken = loop.create_future()
                self._idle_senders.append(woken)
                await woken
                continue
            rejections = await self._writer.write([entry.row for entry in batch])
            for index, entry in enumerate(batch):
                await self._end(entry, rejections.get(index))
            self._release(batch)

    def _take_batch(self) -> list[_Entry[Row]]:
        batch: list[_Entry[Row]] = []
        while self._waiting and len(batch) < self._writer.rows_per_request:
            key, entry = self._waiting.popitem(last=False)
            self._in_flight.add(key)
            batch.append(entry)
        return batch

    def _release(self, batch: list[_Entry[Row]]) -> None:
        """Queue the next rows of the batch's pages."""
        for entry in batch:
            self._in_flight.discard(entry.key)
            if (next_entry := self._next.pop(entry.key, None)) is not None:
                self._waiting[entry.key] = next_entry

    async def _end(self, entry: _Entry[Row], rejection: Rejection | None) -> None:
        await self._on_done(entry.row, rejection)
        with self._lock:
            del self._open[entry.bucket][entry.number]
            self._total -= 1
            if self._blocked_workers:
                self._changed.notify_all()
