"""The process's asyncio event loop, in its own thread.

All HTTP runs here. The worker threads share its connections, and no request blocks a worker.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows; asyncio's own loop is slower
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class EventLoop:
    """An event loop in a daemon thread, which starts at the first use.

    Args:
        on_crash: Called with the exception of a task (`spawn`) or function (`call`, `call_at`).
            No caller waits for these, so their failure must be fatal.
    """

    def __init__(self, on_crash: Callable[[BaseException], None]) -> None:
        self._on_crash = on_crash
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._loop = self._start()
        return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = _new_loop()
        threading.Thread(target=loop.run_forever, name="event-loop", daemon=True).start()
        return loop

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call `function(*args)` on the loop soon; from any thread."""
        self.loop.call_soon_threadsafe(self._guarded, function, *args)

    def call_at(self, when: float, function: Callable[[], object]) -> asyncio.Handle:
        """Call a function at a time of the loop's clock; from the loop's thread only.

        Returns:
            A handle to cancel the call; uvloop's has no `when()` if the time has come.
        """
        return asyncio.get_running_loop().call_at(when, self._guarded, function)

    def _guarded(self, function: Callable[..., object], *args: object) -> None:
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - asyncio would only log it
            self._on_crash(error)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; from any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def spawn(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Start a task whose failure is fatal; from the loop's thread only."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(error)

    def close(self, timeout_s: float = 2.0) -> None:
        """Cancel all tasks and stop the loop."""
        if self._loop is None or self._closed:
            return
        self._closed = True
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._cancel_all, done)
        done.wait(timeout_s)

    def _cancel_all(self, done: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_soon(self._stop, done)

    def _stop(self, done: threading.Event) -> None:
        asyncio.get_running_loop().stop()
        done.set()
