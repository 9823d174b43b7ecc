"""`python -m bench.client`: the CPU that a PUT of one vector costs, for each HTTP client.

It measures the CPU of this process alone (user and system, all threads), with 32 requests in
flight, against a server in another process that does almost nothing. "bare asyncio" is the lower
bound: it writes bytes, counts the bytes of the response, and accepts any response as a success.
Two rows show what the pool costs without one of its optimisations.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import aiohttp
import uvloop
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from bench.bare import connect, request_bytes
from connectors.http import pool
from connectors.http.client import HttpClient
from connectors.http.connection import Connection
from connectors.http.timeouts import Expiring, Timeouts

IN_FLIGHT = 32
REQUESTS = 4000
RUNS = 5
TIMEOUT_S = 30.0
VECTOR = b'{"vector":[' + b",".join([b"0.01234567"] * 768) + b"]}"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
HEADERS = {"Content-Type": "application/json", "X-Cassandra-Token": "token"}

Send = Callable[[str], Awaitable[object]]


class _Server(asyncio.Protocol):
    """Responds to each request once its whole body has arrived."""

    def __init__(self) -> None:
        self._received = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            request_bytes = end + 4 + len(VECTOR)
            if len(self._received) < request_bytes:
                return
            del self._received[:request_bytes]
            self._transport.write(RESPONSE)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def _cost_us(send: Send, requests: int = REQUESTS) -> float:
    """CPU of one request in microseconds: the median of several runs after a warm-up."""
    costs = []
    for _ in range(RUNS + 1):
        started = time.process_time()
        await _send_all(send, requests)
        costs.append(1e6 * (time.process_time() - started) / requests)
    return statistics.median(costs[1:])


async def _send_all(send: Send, requests: int) -> None:
    numbers = iter(range(requests))

    async def send_in_turn() -> None:
        for number in numbers:
            await send(f"/v2/keyspaces/gibsey/page_vectors/page-{number}")

    await asyncio.gather(*(send_in_turn() for _ in range(IN_FLIGHT)))


async def _bare_us(url: str) -> float:
    idle = [await connect(url) for _ in range(IN_FLIGHT)]

    async def send(path: str) -> None:
        connection = idle.pop()
        await connection.send(request_bytes("PUT", path, VECTOR))
        idle.append(connection)

    return await _cost_us(send)


async def _pool_us(url: str) -> float:
    http = HttpClient()
    try:
        return await _cost_us(
            lambda path: http.exchange(
                "PUT", url + path, body=VECTOR, headers=HEADERS, timeout_s=TIMEOUT_S
            )
        )
    finally:
        await http.close()


async def _httpx_us(url: str) -> float:
    http = HttpClient()
    try:
        return await _cost_us(
            lambda path: http.request(
                "PUT", url + path, body=VECTOR, headers=HEADERS, timeout_s=TIMEOUT_S
            ),
            REQUESTS // 10,
        )
    finally:
        await http.close()


async def _aiohttp_us(url: str) -> float:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def send(path: str) -> None:
            async with session.put(url + path, data=VECTOR, headers=HEADERS) as response:
                await response.read()

        return await _cost_us(send)


class _TimerEach(Timeouts):
    """A timer of the event loop for each request."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: dict[Expiring, asyncio.TimerHandle] = {}

    @override
    def start(self, request: Expiring, expires_at: float) -> None:
        delay_s = expires_at - time.monotonic()
        loop = asyncio.get_running_loop()
        self._timers[request] = loop.call_later(delay_s, request.time_out)

    @override
    def stop(self, request: Expiring) -> None:
        self._timers.pop(request).cancel()


@contextmanager
def _parsing_every_head() -> Iterator[None]:
    with patch.object(Connection, "_recognise", lambda *_: False):
        yield


@contextmanager
def _a_timer_each() -> Iterator[None]:
    with patch.object(pool, "Timeouts", _TimerEach):
        yield


async def _measure(url: str) -> Table:
    table = Table("client", "us of CPU a request", title="one PUT of a vector")
    for name, measure, variant in (
        ("bare asyncio (the lower bound)", _bare_us, nullcontext()),
        ("connectors.http.pool (HttpClient.exchange)", _pool_us, nullcontext()),
        ("  parsing the head of every response", _pool_us, _parsing_every_head()),
        ("  with a timer for each request", _pool_us, _a_timer_each()),
        ("aiohttp", _aiohttp_us, nullcontext()),
        ("httpx (HttpClient.request)", _httpx_us, nullcontext()),
    ):
        with variant:
            table.add_row(name, f"{await measure(url):.1f}")
    return table


def main() -> None:
    """Measure all clients, one after the other."""
    if sys.argv[1:] == ["serve"]:
        uvloop.run(_serve())
        return
    command = [sys.executable, "-m", "bench.client", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            Console().print(uvloop.run(_measure(server.stdout.readline().strip())))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
