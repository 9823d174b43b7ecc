"""HTTP/1.1 as the hot paths need it: a whole request out, a whole answer in, connections kept.

A thin layer on httptools, Node.js's parser. A `PUT` of one vector costs 96 us of CPU in aiohttp's
client, 14 here, and 12 where nothing at all is looked at (`python -m bench.client`); each page is
two of them. Everything else goes through httpx (`connectors.http.client`), which knows redirects,
proxies and cookies; none of them belongs here.
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
"""A connection that was not used for longer is not used again."""

_UNSENDABLE = re.compile(r"[^\x21-\x7e]")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_COMMON = "Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: gibsey-embedder\r\n"


class ConnectionPool:
    """Kept connections to any number of places; used on one event loop.

    As many connections are open as requests are in flight: the callers bound these.

    Args:
        tls: Makes the context for https, at the first request to such a place.
        connect_timeout_s: Seconds for connecting, TLS included.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext], connect_timeout_s: float) -> None:
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._limits = Timeouts()
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
        """Send a request and read its answer.

        A kept connection on which no byte of an answer came was closed by the server at that very
        moment, as far as can be told, so the request is sent once more on a new one.

        Args:
            method: HTTP method, other than HEAD and CONNECT.
            url: Absolute URL, percent-encoded; its path is sent as it stands.
            body: Body bytes.
            headers: Header fields.
            timeout_s: Seconds for the whole exchange.
            max_bytes: The longest body that is read.

        Raises:
            TimeoutError: As asyncio's; no whole answer within `timeout_s`.
            IncompleteResponseError: No whole answer.
            OSError: No connection; `ssl.SSLError` where TLS does not come about.
            ValueError: The URL or a header field cannot be sent.
        """
        ends = time.monotonic() + timeout_s
        origin, target = self._split(url)
        request = origin.request(method, target, tuple(headers.items()), body)
        connection = origin.kept()
        if connection is not None:
            try:
                return await connection.exchange(request, ends, max_bytes)
            except IncompleteResponseError:
                if connection.heard:
                    raise
        connection = await self._connect(origin, ends)
        return await connection.exchange(request, ends, max_bytes)

    def close(self) -> None:
        """Close the connections that are kept."""
        for origin in self._origins.values():
            for connection in list(origin.peers.idle):
                connection.abort()

    def _split(self, url: str) -> tuple[_Origin, str]:
        place, target = _place_and_target(url)
        if _UNSENDABLE.search(target):
            raise ValueError("its path is not percent-encoded")
        origin = self._origins.get(place)
        if origin is None:
            origin = self._origins[place] = _Origin(place, HostConnections(self._limits))
        return origin, target

    async def _connect(self, origin: _Origin, ends: float) -> Connection:
        loop = asyncio.get_running_loop()
        left_s = min(self._connect_timeout_s, ends - time.monotonic())
        connecting = loop.create_connection(
            lambda: Connection(loop, origin.peers),
            origin.host,
            origin.port,
            ssl=self._tls() if origin.is_tls else None,
        )
        _, connection = await asyncio.wait_for(connecting, left_s)
        return connection


def _place_and_target(url: str) -> tuple[str, str]:
    """Scheme and authority, and what the request line names."""
    start = url.find("://") + 3
    if start < 3:
        raise ValueError("it is no URL")
    end = url.find("/", start)
    place = url if end < 0 else url[:end]
    place = place.partition("?")[0].partition("#")[0]
    target = url[len(place) :].partition("#")[0]
    return place, target if target.startswith("/") else "/" + target


class _Origin:
    """One scheme, host and port, with the connections to it that wait for work."""

    def __init__(self, place: str, peers: HostConnections) -> None:
        url = URL(place, encoded=True)
        if url.scheme not in ("http", "https") or not url.raw_host or url.port is None:
            raise ValueError("it is no http or https URL")
        self.host = url.raw_host
        self.port = url.port
        self.is_tls = url.scheme == "https"
        self.peers = peers
        self._host_field = f"Host: {url.host_port_subcomponent}\r\n"
        login = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
        self._login = f"Authorization: Basic {login}\r\n" if url.user or url.password else ""

    def request(
        self, method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes | None
    ) -> bytes:
        fields, has_login = _fields(headers)
        head = f"{method} {target} HTTP/1.1\r\n{self._host_field}{fields}"
        if self._login and not has_login:
            head += self._login
        if body is None:
            return (head + "\r\n").encode()
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def kept(self) -> Connection | None:
        """The connection that was used last, if it is still good."""
        while self.peers.idle:
            connection = self.peers.idle.pop()
            if time.monotonic() - connection.used_at < IDLE_S:
                return connection
            connection.abort()
        return None


@lru_cache(maxsize=64)
def _fields(headers: tuple[tuple[str, str], ...]) -> tuple[str, bool]:
    """Header fields as they are sent, and whether there is a login among them."""
    for name, value in headers:
        if _UNSENDABLE.search(name) or _FORBIDDEN.search(value):
            raise ValueError(f"the value of the header field {name!r} holds a line break or so")
    text = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return _COMMON + text, any(name.lower() == "authorization" for name, _ in headers)
