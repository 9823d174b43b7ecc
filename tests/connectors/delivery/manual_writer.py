"""A write queue and a service that responds on the test's command."""

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
    """A service that responds on the test's command."""

    def __init__(self, rows_per_request: int = 1, concurrency: int = 4) -> None:
        self.rows_per_request = rows_per_request
        self.concurrency = concurrency
        self.calls: list[tuple[list[Any], asyncio.Future[dict[int, Rejection]]]] = []

    async def write(self, rows: Sequence[Any]) -> dict[int, Rejection]:
        response: asyncio.Future[dict[int, Rejection]] = asyncio.get_running_loop().create_future()
        self.calls.append((list(rows), response))
        return await response

    @property
    def batches(self) -> list[list[Any]]:
        return [rows for rows, _ in self.calls]

    def respond(self, number: int, rejections: dict[int, Rejection] | None = None) -> None:
        """Respond to a call, counted from 0; wait for it first."""
        eventually(lambda: len(self.calls) > number)
        response = self.calls[number][1]
        response.get_loop().call_soon_threadsafe(response.set_result, rejections or {})


class Harness:
    """A write queue with its writer, the rows that are done, and fatal errors (`crashes`)."""

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

    async def _on_done(self, row: Any, rejection: Rejection | None) -> None:
        while rejection is not None and not self.confirmed.is_set():
            await asyncio.sleep(0.001)
        self.ended.append((row, rejection))

    def settle(self) -> None:
        """Let the event loop run everything that is due."""
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
