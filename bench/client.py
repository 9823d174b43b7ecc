"""`python -m bench.client`: what one PUT of a vector costs the client, by way of asking.

CPU of this process alone (user and system, all threads), 32 requests in flight, against a server
in a process of its own that does next to nothing. "bare asyncio" is the floor: it writes bytes and
counts those that come back, and would take any answer for a good one.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp
import uvloop
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from bench.bare import connect, request_bytes
from connectors.http.client import HttpClient

IN_FLIGHT = 32
REQUESTS = 4000
RUNS = 5
TIMEOUT_S = 30.0
VECTOR = b'{"vector":[' + b",".join([b"0.01234567"] * 768) + b"]}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
HEADERS = {"Content-Type": "application/json", "X-Cassandra-Token": "token"}

Ask = Callable[[str], Awaitable[object]]


class _Server(asyncio.Protocol):
    """Answers each request once its whole body is there."""

    def __init__(self) -> None:
        self._came = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            whole = end + 4 + len(VECTOR)
            if len(self._came) < whole:
                return
            del self._came[:whole]
            self._transport.write(ANSWER)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def _cost_us(ask: Ask) -> float:
    """CPU of one request, in microseconds: the median of some runs after a first one."""
    costs = []
    for _ in range(RUNS + 1):
        began = time.process_time()
        await _ask_all(ask)
        costs.append(1e6 * (time.process_time() - began) / REQUESTS)
    return statistics.median(costs[1:])


async def _ask_all(ask: Ask) -> None:
    numbers = iter(range(REQUESTS))

    async def one_after_the_other() -> None:
        for number in numbers:
            await ask(f"/v2/keyspaces/gibsey/page_vectors/page-{number}")

    await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))


async def _bare_us(url: str) -> float:
    idle = [await connect(url) for _ in range(IN_FLIGHT)]

    async def ask(path: str) -> None:
        connection = idle.pop()
        await connection.ask(request_bytes("PUT", path, VECTOR))
        idle.append(connection)

    return await _cost_us(ask)


async def _http_us(url: str, method: str) -> float:
    """One of the two ways of `HttpClient`: `exchange` or `request`."""
    http = HttpClient()
    send = getattr(http, method)
    try:
        return await _cost_us(
            lambda path: send("PUT", url + path, body=VECTOR, headers=HEADERS, timeout_s=TIMEOUT_S)
        )
    finally:
        await http.close()


async def _aiohttp_us(url: str) -> float:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask(path: str) -> None:
            async with session.put(url + path, data=VECTOR, headers=HEADERS) as answer:
                await answer.read()

        return await _cost_us(ask)


async def _measure(url: str) -> Table:
    table = Table("way to ask", "us of CPU a request", title="one PUT of a vector")
    for name, measure in (
        ("bare asyncio (the floor)", _bare_us),
        ("connectors.http.pool (HttpClient.exchange)", partial(_http_us, method="exchange")),
        ("aiohttp's client", _aiohttp_us),
        ("httpx (HttpClient.request)", partial(_http_us, method="request")),
    ):
        table.add_row(name, f"{await measure(url):.1f}")
    return table


def main() -> None:
    """Measure all ways, one after the other."""
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
