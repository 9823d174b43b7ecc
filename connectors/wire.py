"""HTTP/1.1 as the hot paths need it: a whole request out, a whole answer in, connections kept.

A thin layer on httptools, Node.js's parser. A `PUT` of one vector costs 96 us of CPU in
aiohttp's client, 19 here, and 10 where nothing at all is looked at (`python -m bench.client`); each
page is two of them. Everything else goes through httpx (`connectors.http`), which knows redirects,
proxies and cookies; none of them belongs here.

    OSError
    ├── CutOff             no whole answer, or none that is HTTP
    │   └── AnswerTooLong
    └── …                  what sockets and TLS raise
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict
from typing_extensions import override
from yarl import URL

IDLE_S = 30.0
"""A connection that was not used for longer is not used again."""
MAX_HEAD_BYTES = 64 * 1024

_UNSENDABLE = re.compile(r"[^\x21-\x7e]")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_COMMON = "Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: gibsey-embedder\r\n"


class CutOff(OSError):
    """The connection ended before a whole answer, or what came is no HTTP."""


class AnswerTooLong(CutOff):
    """The answer is longer than was allowed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes:
        status: HTTP status.
        headers: Header fields; look-up ignores case.
        body: The whole body, unpacked.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Kept connections to any number of places; used on one event loop.

    As many connections are open as requests are in flight: the callers bound these.

    Args:
        tls: Makes the context for https, at the first request to such a place.
        connect_timeout_s: Seconds for connecting, TLS included.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext], connect_timeout_s: float) -> None:
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
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
    ) -> Reply:
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
            CutOff: No whole answer.
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
            except CutOff:
                if connection.heard:
                    raise
        connection = await self._connect(origin, ends)
        return await connection.exchange(request, ends, max_bytes)

    def close(self) -> None:
        """Close the connections that are kept."""
        for origin in self._origins.values():
            for connection in list(origin.idle):
                connection.abort()

    def _split(self, url: str) -> tuple[_Origin, str]:
        place, target = _place_and_target(url)
        if _UNSENDABLE.search(target):
            raise ValueError("its path is not percent-encoded")
        origin = self._origins.get(place)
        if origin is None:
            origin = self._origins[place] = _Origin(place)
        return origin, target

    async def _connect(self, origin: _Origin, ends: float) -> _Connection:
        loop = asyncio.get_running_loop()
        left_s = min(self._connect_timeout_s, ends - time.monotonic())
        connecting = loop.create_connection(
            lambda: _Connection(loop, origin),
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
    ends = [at for at in (url.find(mark, start) for mark in "/?#") if at >= 0]
    end = min(ends, default=len(url))
    target = url[end:].partition("#")[0]
    return url[:end], target if target.startswith("/") else "/" + target


class _Origin:
    """One scheme, host and port, with the connections to it that wait for work."""

    def __init__(self, place: str) -> None:
        url = URL(place, encoded=True)
        if url.scheme not in ("http", "https") or not url.raw_host or url.port is None:
            raise ValueError("it is no http or https URL")
        self.host = url.raw_host
        self.port = url.port
        self.is_tls = url.scheme == "https"
        self.idle: list[_Connection] = []
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

    def kept(self) -> _Connection | None:
        """The connection that was used last, if it is still good."""
        while self.idle:
            connection = self.idle.pop()
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


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, and the parser of its answer.

    Attributes:
        heard: Whether a byte came since the latest request.
        used_at: When its latest answer was complete (seconds of the monotonic clock).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: _Origin) -> None:
        self._loop = loop
        self._origin = origin
        self._parser = HttpResponseParser(self)
        self._reply: asyncio.Future[Reply] | None = None
        self._max_bytes = 0
        self._keep = False
        self.heard = False
        self.used_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self._fields: CIMultiDict[str] = CIMultiDict()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_body = False
        self._complete: Reply | None = None

    async def exchange(self, request: bytes, ends: float, max_bytes: int) -> Reply:
        """Send a request; the connection is kept for the next one, or closed."""
        if self._transport.is_closing():
            raise CutOff("it hung up before it was asked anything")
        self.heard = False
        self._max_bytes = max_bytes
        self._begin()
        self._reply = self._loop.create_future()
        timer = self._loop.call_later(max(0.0, ends - time.monotonic()), self._time_out)
        try:
            self._transport.write(request)
            reply = await self._reply
        except BaseException:  # also a caller that does not want it any more
            self.abort()
            raise
        finally:
            timer.cancel()
            self._reply = None
        if self._keep and not self._transport.is_closing():
            self.used_at = time.monotonic()
            self._origin.idle.append(self)
        else:
            self.abort()
        return reply

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self.abort()

    def _time_out(self) -> None:
        self._fail(asyncio.TimeoutError())

    # --- what the event loop calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    @override
    def data_received(self, data: bytes) -> None:
        self.heard = True
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(CutOff("it wants to speak another protocol"))
        except HttpParserError as error:
            if self._complete is None:
                self._fail(_meaning(error, data))
            else:  # of what follows nobody knows whose it is
                self._keep = False
                self._go_on()
        else:
            self._go_on()

    def _go_on(self) -> None:
        """After each piece: an answer may be complete, or too much may have come."""
        if self._reply is None or self._reply.done():
            self.abort()  # nobody has asked anything
        elif self._complete is not None:
            self._reply.set_result(self._complete)
        elif not self._in_body and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(CutOff("its header fields have no end"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._origin.idle:
            self._origin.idle.remove(self)
        if self._reply is None or self._reply.done():
            return
        if self._in_body and exc is None and self._ends_with_connection():
            self.on_message_complete()
            self._go_on()
        else:
            reason = getattr(exc, "strerror", None) or str(exc or "it said nothing more")
            self._fail(CutOff(reason))

    def _ends_with_connection(self) -> bool:
        return not {"Content-Length", "Transfer-Encoding"} & self._fields.keys()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        if self._complete is not None:
            raise CutOff("it answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(value) > MAX_HEAD_BYTES:
            raise CutOff(f"it sent a header field of {len(value)} bytes")
        self._fields.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        self._in_body = True
        length = self._fields.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise AnswerTooLong

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            raise AnswerTooLong

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer comes after it
            self._begin()
            return
        body = b"".join(self._body)
        if (packing := self._fields.get("Content-Encoding")) is not None:
            body = _unpacked(body, packing, self._max_bytes)
        self._keep = self._parser.should_keep_alive()
        self._complete = Reply(status, self._fields, body)


def _meaning(error: HttpParserError, data: bytes) -> CutOff:
    raised = error.__context__
    if isinstance(raised, CutOff):  # by one of the parser's callbacks
        return raised
    return CutOff(f"it does not speak HTTP: {data[:60]!r}")


def _unpacked(body: bytes, packing: str, max_bytes: int) -> bytes:
    """The body without its content coding."""
    if packing.lower() in ("", "identity"):
        return body
    if packing.lower() not in ("gzip", "x-gzip", "deflate"):
        raise CutOff(f"its answer is packed with {packing!r}")
    unpacker = zlib.decompressobj(wbits=47)  # gzip's header, or zlib's
    try:
        plain = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise CutOff(f"its packed answer is broken: {error}") from error
    if len(plain) > max_bytes:
        raise AnswerTooLong
    if not unpacker.eof:
        raise CutOff("its packed answer is cut")
    return plain
