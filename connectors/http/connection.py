"""One HTTP/1.1 connection: one request at a time, and the parser of its response."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict
from typing_extensions import override

from connectors.http.errors import IncompleteResponseError, ResponseTooLargeError
from connectors.http.response import Response
from connectors.http.timeouts import Timeouts

MAX_HEAD_BYTES = 64 * 1024
MAX_KNOWN_HEADS = 64
"""The most heads that a host's connections recognise; a head with a request id never repeats."""

_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Head:
    """The head of a response whose body has a Content-Length and no encoding."""

    status: int
    fields: Mapping[str, str]
    keep_alive: bool
    body_bytes: int


@dataclass(slots=True)
class HostConnections:
    """What the connections to one host share.

    Attributes:
        timeouts: The timeouts of their requests.
        idle: Idle connections, the most recently used last.
        known_heads: Heads of responses by their bytes. Most responses repeat the head of an earlier
            one, which saves parsing it: 4 us of CPU a request (`python -m bench.client`).
    """

    timeouts: Timeouts
    idle: list[Connection] = field(default_factory=list)
    known_heads: dict[bytes, _Head] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """A connection. After each complete response it becomes idle, or closes.

    Args:
        loop: Its event loop.
        host: What it shares with the other connections to its host.

    Attributes:
        has_received: Whether a byte has arrived since the latest request.
        used_at: When its latest response was complete (monotonic seconds).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, host: HostConnections) -> None:
        self._loop = loop
        self._host = host
        self._parser = HttpResponseParser(self)
        self._pending: asyncio.Future[Response] | None = None
        self._max_bytes = 0
        self._keep_alive = False
        self.has_received = False
        self.used_at = 0.0
        self._expect_response()

    def _expect_response(self) -> None:
        self._response: Response | None = None
        self._is_parsing = False  # the parser has received a part of it
        self._in_body = False
        self._head_bytes = 0

    async def exchange(self, request: bytes, expires_at: float, max_bytes: int) -> Response:
        """Send a request and wait for the complete response.

        Args:
            request: The complete request.
            expires_at: When it times out (monotonic seconds).
            max_bytes: The largest body that it reads.
        """
        if self._transport.is_closing():
            raise IncompleteResponseError("it closed the connection before the request")
        self.has_received = False
        self._max_bytes = max_bytes
        self._expect_response()
        self._pending = self._loop.create_future()
        self._host.timeouts.start(self, expires_at)
        try:
            self._transport.write(request)
            response = await self._pending
        except BaseException:  # also a cancelled caller
            self.abort()
            raise
        finally:
            self._host.timeouts.stop(self)
            self._pending = None
        if self._keep_alive and not self._transport.is_closing():
            self.used_at = time.monotonic()
            self._host.idle.append(self)
        else:
            self.abort()
        return response

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def time_out(self) -> None:
        """End the request, which has expired."""
        self._fail(asyncio.TimeoutError())

    def _fail(self, error: Exception) -> None:
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(error)
        self.abort()

    # --- the event loop calls these

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not derive

    @override
    def data_received(self, data: bytes) -> None:
        self.has_received = True
        is_first = not self._is_parsing
        if is_first and self._recognise(data):
            self._check_progress()
            return
        self._is_parsing = True
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(IncompleteResponseError("it switches to another protocol"))
        except HttpParserError as error:
            if self._response is None:
                self._fail(_parser_error(error, data))
            else:  # the response is complete, but the bytes after it belong to no request
                self._keep_alive = False
                self._check_progress()
        else:
            if is_first and self._response is not None:
                self._remember_head(data, self._response)
            self._check_progress()

    def _recognise(self, data: bytes) -> bool:
        """Return whether these bytes are a complete response with a known head; if so, keep it."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        head = self._host.known_heads.get(data[:end])
        if head is None or len(data) - end != head.body_bytes or head.body_bytes > self._max_bytes:
            return False
        self._keep_alive = head.keep_alive
        self._response = Response(head.status, head.fields, data[end:])
        return True

    def _remember_head(self, data: bytes, response: Response) -> None:
        """Recognise this head from now on, if Content-Length alone determines the body's end."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        length, fields = len(response.body), response.headers
        is_plain = "Transfer-Encoding" not in fields and "Content-Encoding" not in fields
        if is_plain and fields.get("Content-Length") == str(length) and len(data) == end + length:
            heads = self._host.known_heads
            if len(heads) >= MAX_KNOWN_HEADS:
                heads.clear()
            heads[data[:end]] = _Head(response.status, fields, self._keep_alive, length)

    def _check_progress(self) -> None:
        """After each read: the response may be complete, or the bytes may be too many."""
        if self._pending is None or self._pending.done():
            self.abort()  # bytes without a request
        elif self._response is not None:
            self._pending.set_result(self._response)
        elif not self._in_body and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(IncompleteResponseError(f"its head is larger than {MAX_HEAD_BYTES} bytes"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._host.idle:
            self._host.idle.remove(self)
        if self._pending is None or self._pending.done():
            return
        if self._in_body and exc is None and self._ends_with_connection():
            self.on_message_complete()
            self._check_progress()
        else:
            reason = getattr(exc, "strerror", None) or str(exc or "it closed the connection")
            self._fail(IncompleteResponseError(reason))

    def _ends_with_connection(self) -> bool:
        return not {"Content-Length", "Transfer-Encoding"} & self._fields.keys()

    # --- the parser calls these

    def on_message_begin(self) -> None:
        """Reject a second response to one request."""
        if self._response is not None:
            raise IncompleteResponseError("it sent two responses")
        self._fields: CIMultiDict[str] = CIMultiDict()
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field."""
        if len(value) > MAX_HEAD_BYTES:
            raise IncompleteResponseError(f"it sent a header field of {len(value)} bytes")
        self._fields.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Reject a body whose Content-Length is too large."""
        self._in_body = True
        length = self._fields.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise ResponseTooLargeError(self._max_bytes)

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            raise ResponseTooLargeError(self._max_bytes)

    def on_message_complete(self) -> None:
        """Make the response."""
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the response follows
            self._in_body = False
            self._head_bytes = 0
            return
        body = b"".join(self._body)
        if (encoding := self._fields.get("Content-Encoding")) is not None:
            body = _decompress(body, encoding, self._max_bytes)
        self._keep_alive = self._parser.should_keep_alive()
        self._response = Response(status, self._fields, body)


def _parser_error(error: HttpParserError, data: bytes) -> IncompleteResponseError:
    context = error.__context__
    if isinstance(context, IncompleteResponseError):  # from one of the parser's callbacks
        return context
    return IncompleteResponseError(f"it does not speak HTTP: {data[:60]!r}")


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the body without its Content-Encoding."""
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "x-gzip", "deflate"):
        raise IncompleteResponseError(f"its Content-Encoding is {encoding!r}")
    decompressor = zlib.decompressobj(wbits=47)  # gzip's header, or zlib's
    try:
        plain = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise IncompleteResponseError(f"its compressed body is broken: {error}") from error
    if len(plain) > max_bytes:
        raise ResponseTooLargeError(max_bytes)
    if not decompressor.eof:
        raise IncompleteResponseError("its compressed body is not complete")
    return plain
