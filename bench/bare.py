"""The floor of an HTTP client: bytes written, and the bytes of the answer counted.

It would take any answer for a good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from typing_extensions import override
from yarl import URL

END, LENGTH = b"\r\n\r\n", b"Content-Length: "


class Bare(asyncio.Protocol):
    """A connection; one request at a time."""

    def __init__(self) -> None:
        self._left = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        if not self._left:  # the head comes whole: it is written at once
            start = data.index(LENGTH) + len(LENGTH)
            self._left = data.index(END) + len(END) + int(data[start : data.index(b"\r", start)])
        self._left -= len(data)
        if not self._left:
            self._answered.set_result(None)

    async def ask(self, request: bytes) -> None:
        """Send a request, and wait for the end of its answer."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._answered


async def connect(url: str) -> Bare:
    """A new connection to where a URL points."""
    place = URL(url)
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(Bare, place.host or "", place.port or 80))[1]


async def ask_all(connections: Iterable[Bare], requests: Iterable[bytes]) -> None:
    """Send requests over connections, each as soon as one is free."""
    left = iter(requests)

    async def one_after_the_other(connection: Bare) -> None:
        for request in left:
            await connection.ask(request)

    await asyncio.gather(*map(one_after_the_other, connections))


def request_bytes(method: str, path: str, body: bytes, *fields: str) -> bytes:
    """A whole request."""
    head = "\r\n".join(
        (f"{method} {path} HTTP/1.1", "Host: localhost", *fields, f"Content-Length: {len(body)}")
    )
    return head.encode() + END + body
