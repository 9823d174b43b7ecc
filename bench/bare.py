"""The lower bound of an HTTP client: it writes bytes and counts the bytes of the response.

It accepts any response as a success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from typing_extensions import override
from yarl import URL

END, LENGTH = b"\r\n\r\n", b"Content-Length: "


class BareConnection(asyncio.Protocol):
    """A connection; one request at a time."""

    def __init__(self) -> None:
        self._missing_bytes = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        if not self._missing_bytes:  # the fakes write a head in one piece
            start = data.index(LENGTH) + len(LENGTH)
            body_bytes = int(data[start : data.index(b"\r", start)])
            self._missing_bytes = data.index(END) + len(END) + body_bytes
        self._missing_bytes -= len(data)
        if not self._missing_bytes:
            self._complete.set_result(None)

    async def send(self, request: bytes) -> None:
        """Send a request, and wait for the end of its response."""
        self._complete = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._complete


async def connect(url: str) -> BareConnection:
    """A new connection to the host of a URL."""
    address = URL(url)
    loop = asyncio.get_running_loop()
    connecting = loop.create_connection(BareConnection, address.host or "", address.port or 80)
    return (await connecting)[1]


async def send_all(connections: Iterable[BareConnection], requests: Iterable[bytes]) -> None:
    """Send requests over connections, each as soon as one is free."""
    remaining = iter(requests)

    async def send_in_turn(connection: BareConnection) -> None:
        for request in remaining:
            await connection.send(request)

    await asyncio.gather(*map(send_in_turn, connections))


def request_bytes(method: str, path: str, body: bytes, *fields: str) -> bytes:
    """A complete request."""
    head = "\r\n".join(
        (f"{method} {path} HTTP/1.1", "Host: localhost", *fields, f"Content-Length: {len(body)}")
    )
    return head.encode() + END + body
