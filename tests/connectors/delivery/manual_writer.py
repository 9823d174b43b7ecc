"""A write queue, and a service behind it that answers when the test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from connectors.core.errors import Rejection
from connectors.delivery.write_queue import WriteQueue
from connectors.runtime.event_loop import EventLoop
from tests.eventually import eventually

NO = Rejection("refused-by-stargate", "no")


@dataclass(frozen=True)
class Row:
    page: str
    number: int


class ManualWriter:
    """A service whose calls end when the test says so."""

    def __init__(self, rows_per_request: int = 1, concurrency: int = 4) -> None:
        self.rows_per_request = rows_per_request
        self.concurrency = concurrency
        self.calls: list[tuple[list[Any], asyncio.Future[dict[int, Rejection]]]] = []

    async def write(self, rows: Sequence[Any]) -> dict[int, Rejection]:
        answered: asyncio.Future[dict[int, Rejection]] = asyncio.get_running_loop().create_future()
        self.calls.append((list(rows), answered))
        return await answered

    @property
    def batches(self) -> list[list[Any]]:
        return [rows for rows, _ in self.calls]

    def answer(self, number: int, refused: dict[int, Rejection] | None = None) -> None:
        """Answer the call of that number, from 0, once it came."""
        eventually(lambda: len(self.calls) > number)
        answered = self.calls[number][1]
        answered.get_loop().call_soon_threadsafe(answered.set_result, refused or {})


class Harness:
    """A write queue with a writer, and what ended; `crashes` holds what was fatal."""

    def __init__(self, writer, max_open: int = 1024, key=lambda row: row.page) -> None:
        self.writer = writer
        self.ended: list[tuple[Any, Rejection | None]] = []
        self.crashes: list[BaseException] = []
        self.event_loop = EventLoop(self.crashes.append)
        self.confirmed = threading.Event()  # whether dead letters are confirmed
        self.confirmed.set()
        self.write_queue: WriteQueue[Any] = WriteQueue(
            writer, key, self._on_done, self.event_loop, max_open
        )

    async def _on_done(self, row: Any, refusal: Rejection | None) -> None:
        while refusal is not None and not self.confirmed.is_set():
            await asyncio.sleep(0.001)
        self.ended.append((row, refusal))

    def settle(self) -> None:
        """Let the loop do all that it has been told so far."""
        for _ in range(5):
            self.event_loop.submit(asyncio.sleep(0)).result(10)


@pytest.fixture
def open_harness(request):
    def make(writer, max_open: int = 1024, **more) -> Harness:
        harness = Harness(writer, max_open, **more)
        request.addfinalizer(harness.event_loop.close)
        return harness

    return make


def in_thread(function, *args) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def rows(*pages: str) -> list[Row]:
    return [Row(page, number) for number, page in enumerate(pages)]
