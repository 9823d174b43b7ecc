"""The connection pool for the three requests that every page needs: HTTP/1.1 on kept connections.

It is a thin layer on httptools, Node.js's parser. A `PUT` of one vector costs 14 us of CPU here,
97 in aiohttp, and 9 if the client ignores the response (`python -m bench.client`). It follows no
redirect and uses no proxy and no cookie. Everything else goes through httpx.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections.abc import Callable, Mapping
from functools import lru_cache

from yarl import URL

from connectors.http.connection import Connection, HostConnections
from connectors.http.errors import IncompleteResponseError
from connectors.http.response import Response
from connectors.http.timeouts import Timeouts

IDLE_S = 30.0
"""A connection that has been idle for longer is closed instead of used."""

_NOT_IN_URL = re.compile(r"[^\x21-\x7e]")
_NOT_IN_FIELD = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_COMMON_FIELDS = "Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: gibsey-embedder\r\n"


class ConnectionPool:
    """Kept connections to any number of hosts. Use it on one event loop.

    It opens a connection for each request in flight: the callers limit these.

    Args:
        tls_context: Makes the TLS context, at the first https request.
        connect_timeout_s: Seconds for connecting, TLS included.
    """

    def __init__(self, tls_context: Callable[[], ssl.SSLContext], connect_timeout_s: float) -> None:
        self._tls_context = tls_context
        self._connect_timeout_s = connect_timeout_s
        self._timeouts = Timeouts()
        self._origins: dict[str, _Origin] = {}

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        max_bytes: int,
    ) -> Response:
        """Send a request and read its response.

        The server may close a kept connection while the request is on its way. If no byte of a
        response has arrived, the request is sent once more, on a new connection.

        Args:
            method: HTTP method, other than HEAD and CONNECT.
            url: Absolute URL, percent-encoded; its path is sent unchanged.
            body: Body bytes.
            headers: Header fields.
            timeout_s: Seconds for the whole exchange.
            max_bytes: The largest body that it reads.

        Raises:
            TimeoutError: asyncio's; no complete response within `timeout_s`.
            IncompleteResponseError: No complete response.
            OSError: No connection; `ssl.SSLError` if TLS failed.
            ValueError: The URL or a header field cannot be sent.
        """
        expires_at = time.monotonic() + timeout_s
        origin, target = self._origin_of(url)
        request = origin.request(method, target, tuple(headers.items()), body)
        connection = origin.idle_connection()
        if connection is not None:
            try:
                return await connection.exchange(request, expires_at, max_bytes)
            except IncompleteResponseError:
                if connection.has_received:
                    raise
        connection = await self._connect(origin, expires_at)
        return await connection.exchange(request, expires_at, max_bytes)

    def close(self) -> None:
        """Close the idle connections."""
        for origin in self._origins.values():
            for connection in list(origin.connections.idle):
                connection.abort()

    def _origin_of(self, url: str) -> tuple[_Origin, str]:
        base, target = _split(url)
        if _NOT_IN_URL.search(target):
            raise ValueError("the path is not percent-encoded")
        origin = self._origins.get(base)
        if origin is None:
            origin = self._origins[base] = _Origin(base, HostConnections(self._timeouts))
        return origin, target

    async def _connect(self, origin: _Origin, expires_at: float) -> Connection:
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(
            lambda: Connection(loop, origin.connections),
            origin.host,
            origin.port,
            ssl=self._tls_context() if origin.is_tls else None,
        )
        timeout_s = min(self._connect_timeout_s, expires_at - time.monotonic())
        _, connection = await asyncio.wait_for(connecting, timeout_s)
        return connection


def _split(url: str) -> tuple[str, str]:
    """Return the URL's scheme and authority, and the target of the request line."""
    start = url.find("://") + 3
    if start < 3:
        raise ValueError("the URL has no scheme")
    end = url.find("/", start)
    base = url if end < 0 else url[:end]
    base = base.partition("?")[0].partition("#")[0]
    target = url[len(base) :].partition("#")[0]
    return base, target if target.startswith("/") else "/" + target


class _Origin:
    """A scheme, login, host and port, with the connections to it.

    Args:
        base: The beginning of its URLs.
        connections: Its connections.
    """

    def __init__(self, base: str, connections: HostConnections) -> None:
        url = URL(base, encoded=True)
        if url.scheme not in ("http", "https") or not url.raw_host or url.port is None:
            raise ValueError("the URL is not http or https")
        self.host = url.raw_host
        self.port = url.port
        self.is_tls = url.scheme == "https"
        self.connections = connections
        self._host_field = f"Host: {url.host_port_subcomponent}\r\n"
        login = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
        self._login_field = f"Authorization: Basic {login}\r\n" if url.user or url.password else ""

    def request(
        self, method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes | None
    ) -> bytes:
        fields, has_login = _fields(headers)
        head = f"{method} {target} HTTP/1.1\r\n{self._host_field}{fields}"
        if self._login_field and not has_login:
            head += self._login_field
        if body is None:
            return (head + "\r\n").encode()
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def idle_connection(self) -> Connection | None:
        """Return the connection that was used last, if it has not been idle for too long."""
        while self.connections.idle:
            connection = self.connections.idle.pop()
            if time.monotonic() - connection.used_at < IDLE_S:
                return connection
            connection.abort()
        return None


@lru_cache(maxsize=64)
def _fields(headers: tuple[tuple[str, str], ...]) -> tuple[str, bool]:
    """Return header fields as text, and whether Authorization is among them."""
    for name, value in headers:
        if _NOT_IN_URL.search(name) or _NOT_IN_FIELD.search(value):
            raise ValueError(
                f"the value of the header field {name!r} contains a line break or another "
                "control character"
            )
    text = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return _COMMON_FIELDS + text, any(name.lower() == "authorization" for name, _ in headers)
