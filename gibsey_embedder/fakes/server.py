"""The base class of the HTTP fakes: a real socket, served by a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, ClassVar, TypeVar

import orjson
from aiohttp import web

from gibsey_embedder.fakes.faults import Fault, Faults, parse_fault
from gibsey_embedder.fakes.message import Reply, Request, json_reply
from gibsey_embedder.fakes.slots import Slots
from gibsey_embedder.fakes.stats import Stats

try:
    import uvloop as loops
except ImportError:  # Windows has no uvloop
    import asyncio as loops  # type: ignore[no-redef]

START_TIMEOUT_S = 10.0
MAX_LINE_BYTES = 1 << 20
"""Longer than any real server accepts, so that the fakes themselves can reply 414."""

T = TypeVar("T")
S = TypeVar("S", bound="FakeServer")


class FakeServer:
    """Base class of the HTTP fakes: start, stop, faults and counters; subclasses reply.

    Faults do not affect `POST /__control__` and `GET /__stats__`, except while connections are
    refused.

    Args:
        host: Address to listen on.
        port: Port; 0 chooses a free one, which later starts reuse.
        delay_s: Seconds that each request takes at least.
        workers: Maximum number of requests served at once; 0 means no limit.
    """

    CONTROLS: ClassVar[frozenset[str]] = frozenset({"delay_s"})
    """Attributes that `POST /__control__` may set."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, delay_s: float = 0.0, workers: int = 0
    ) -> None:
        self.host, self.port, self.delay_s, self.workers = host, port, delay_s, workers
        self.faults = Faults()
        self.stats = Stats()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runner: web.ServerRunner | None = None
        self._slots: Slots | None = None
        self._unhang = asyncio.Event()
        self.faults.on_clear(self._end_hanging)

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Listen, and return as soon as connections are accepted.

        Raises:
            OSError: The port is in use.
        """
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.result(START_TIMEOUT_S)

    def stop(self) -> None:
        """Close the listener and all connections; `start` listens again on the same port."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._call(self._close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_TIMEOUT_S)
        self._loop = self._thread = None

    def __enter__(self: S) -> S:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def refuse(self, seconds: float | None = None) -> None:
        """Close the listener and all connections, so that connections are refused.

        Args:
            seconds: Accept connections again after this time; None waits for `accept`.
        """
        self._call(self._close())
        if seconds is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._accept_later, seconds)

    def accept(self) -> None:
        """Listen again after `refuse`, on the same port."""
        self._call(self._open())

    async def reply_to(self, request: Request) -> Reply:
        """Return the reply to a request; runs on the fake's event loop."""
        raise NotImplementedError

    def details(self) -> dict[str, object]:
        """Return what `GET /__stats__` reports in addition to the counters."""
        return {}

    def create_loop_objects(self) -> None:
        """Create the objects that belong to an event loop; called on it before it listens."""

    def _run(self, started: Future[None]) -> None:
        loop = self._loop = loops.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._open())
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        loop.run_forever()
        _cancel_all(loop)
        loop.close()

    async def _open(self) -> None:
        if self._runner is not None:
            return
        self._unhang = asyncio.Event()
        self._slots = Slots(self.workers, self.stats) if self.workers else None
        self.create_loop_objects()
        server = web.Server(
            self._handle,
            access_log=None,
            handler_cancellation=True,
            max_line_size=MAX_LINE_BYTES,
        )
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, self.host, self.port, reuse_address=True, backlog=1024)
        await site.start()
        self.port = int(runner.addresses[0][1])
        self._runner = runner

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        self._unhang.set()
        if runner is not None:
            await runner.cleanup()

    def _accept_later(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: loop.create_task(self._open()))

    def _end_hanging(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._swap_unhang)

    def _swap_unhang(self) -> None:
        self._unhang.set()
        self._unhang = asyncio.Event()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError(f"{type(self).__name__} is not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT_S)

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        request = Request(http.method, http.raw_path, http.headers, await http.read())
        if request.path.startswith("/__"):
            return _response(self._special(request))
        self.stats.begin()
        try:
            fault = self.faults.take(request)
            if fault is not None:
                return await self._fail(http, request, fault)
            return _response(await self._serve(request))
        finally:
            self.stats.end()

    async def _serve(self, request: Request) -> Reply:
        if self._slots is not None:
            return await self._slots.serve(self.delay_s, partial(self.reply_to, request))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        reply = await self.reply_to(request)
        if reply.takes_s:
            await asyncio.sleep(reply.takes_s)
        return reply

    async def _fail(
        self, http: web.BaseRequest, request: Request, fault: Fault
    ) -> web.StreamResponse:
        self.stats.faults += 1
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return _response(await self._serve(request))
        if fault.kind == "reply":
            if fault.done:
                await self._serve(request)
            return _response(fault.reply)
        if fault.kind == "cut":
            return await _cut(http, await self._serve(request))
        if fault.kind == "hang":
            await self._unhang.wait()
        return _drop(http)

    def _special(self, request: Request) -> Reply:
        if request.path == "/__stats__":
            return json_reply(self.stats.as_dict() | self.details())
        if request.path == "/__control__" and request.method == "POST":
            try:
                self._control(orjson.loads(request.body))
            except (ValueError, KeyError, AttributeError) as error:
                return json_reply({"error": str(error)}, 400)
            return json_reply({"ok": True})
        return json_reply({"error": "only /__stats__ and POST /__control__ exist"}, 404)

    def _control(self, given: dict[str, Any]) -> None:
        fault = given.pop("fault", ...)
        if unknown := given.keys() - self.CONTROLS:
            raise ValueError(f"cannot be set: {', '.join(sorted(unknown))}")
        for name, value in given.items():
            setattr(self, name, value)
        if fault is None:
            self.faults.clear()
        elif fault is not ... and fault["kind"] == "refuse":
            loop = asyncio.get_running_loop()
            loop.call_later(0.02, lambda: loop.create_task(self._close()))
            self._accept_later(0.02 + float(fault["seconds"]))
        elif fault is not ...:
            self.faults.add(parse_fault(fault))


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


async def _cut(http: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    body = reply.body or b"{}"
    response = web.StreamResponse(status=reply.status)
    response.content_type = "application/json"
    response.content_length = len(body)
    await response.prepare(http)
    await response.write(body[: len(body) // 2])
    if http.transport is not None:
        http.transport.close()  # unlike abort, this sends what was written
    raise asyncio.CancelledError


def _drop(http: web.BaseRequest) -> web.StreamResponse:
    if http.transport is not None:
        http.transport.abort()
    raise asyncio.CancelledError


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def wait_until_terminated(fake: FakeServer) -> None:
    """Run a fake as a process: print its URL on one line, and stop at SIGTERM or SIGINT."""
    import signal

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    fake.start()
    print(fake.url, flush=True)
    while not done.wait(0.2):
        time.sleep(0)
    fake.stop()
