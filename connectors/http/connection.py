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
MAX_HEADS = 64
"""Heads that are known again, of one place; with ids in them none comes twice."""

_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Head:
    """What the head of an answer says; one with a body of known length, not packed."""

    status: int
    fields: Mapping[str, str]
    keep: bool
    body_bytes: int


@dataclass(slots=True)
class HostConnections:
    """What the connections to one place share.

    Attributes:
        limits: The time limits of their requests.
        idle: Those that wait for work.
        heads: Heads of answers by their bytes: the next answer's is the same, most often, and
            need not be taken apart again.
    """

    limits: Timeouts
    idle: list[Connection] = field(default_factory=list)
    heads: dict[bytes, _Head] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """A connection, which puts itself among the idle ones after each whole answer.

    Args:
        loop: The loop that it belongs to.
        peers: The connections to the same place.

    Attributes:
        heard: Whether a byte came since the latest request.
        used_at: When its latest answer was complete (seconds of the monotonic clock).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, peers: HostConnections) -> None:
        self._loop = loop
        self._peers = peers
        self._parser = HttpResponseParser(self)
        self._reply: asyncio.Future[Response] | None = None
        self._max_bytes = 0
        self._keep = False
        self.heard = False
        self.used_at = 0.0
        self._await_answer()

    def _await_answer(self) -> None:
        self._complete: Response | None = None
        self._is_parsing = False  # the parser has had a piece of it
        self._in_body = False
        self._head_bytes = 0

    async def exchange(self, request: bytes, ends: float, max_bytes: int) -> Response:
        """Send a request; the connection is kept for the next one, or closed."""
        if self._transport.is_closing():
            raise IncompleteResponseError("it hung up before it was asked anything")
        self.heard = False
        self._max_bytes = max_bytes
        self._await_answer()
        self._reply = self._loop.create_future()
        self._peers.limits.begin(self, ends)
        try:
            self._transport.write(request)
            answer = await self._reply
        except BaseException:  # also a caller that does not want it any more
            self.abort()
            raise
        finally:
            self._peers.limits.end(self)
            self._reply = None
        if self._keep and not self._transport.is_closing():
            self.used_at = time.monotonic()
            self._peers.idle.append(self)
        else:
            self.abort()
        return answer

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def time_out(self) -> None:
        """End the request, whose time is up."""
        self._fail(asyncio.TimeoutError())

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self.abort()

    # --- what the event loop calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    @override
    def data_received(self, data: bytes) -> None:
        self.heard = True
        is_first = not self._is_parsing
        if is_first and self._is_known(data):
            self._go_on()
            return
        self._is_parsing = True
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(IncompleteResponseError("it wants to speak another protocol"))
        except HttpParserError as error:
            if self._complete is None:
                self._fail(_meaning(error, data))
            else:  # of what follows nobody knows whose it is
                self._keep = False
                self._go_on()
        else:
            if is_first and self._complete is not None:
                self._remember_head(data, self._complete)
            self._go_on()

    def _is_known(self, data: bytes) -> bool:
        """Whether a whole answer came, with a head that came before; then it is complete."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        head = self._peers.heads.get(data[:end])
        if head is None or len(data) - end != head.body_bytes or head.body_bytes > self._max_bytes:
            return False
        self._keep = head.keep
        self._complete = Response(head.status, head.fields, data[end:])
        return True

    def _remember_head(self, data: bytes, answer: Response) -> None:
        """Know the head of an answer again, where its end is known by its length alone."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        length, fields = len(answer.body), answer.headers
        is_plain = "Transfer-Encoding" not in fields and "Content-Encoding" not in fields
        if is_plain and fields.get("Content-Length") == str(length) and len(data) == end + length:
            heads = self._peers.heads
            if len(heads) >= MAX_HEADS:
                heads.clear()
            heads[data[:end]] = _Head(answer.status, fields, self._keep, length)

    def _go_on(self) -> None:
        """After each piece: an answer may be complete, or too much may have come."""
        if self._reply is None or self._reply.done():
            self.abort()  # nobody has asked anything
        elif self._complete is not None:
            self._reply.set_result(self._complete)
        elif not self._in_body and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(IncompleteResponseError("its header fields have no end"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._peers.idle:
            self._peers.idle.remove(self)
        if self._reply is None or self._reply.done():
            return
        if self._in_body and exc is None and self._ends_with_connection():
            self.on_message_complete()
            self._go_on()
        else:
            reason = getattr(exc, "strerror", None) or str(exc or "it said nothing more")
            self._fail(IncompleteResponseError(reason))

    def _ends_with_connection(self) -> bool:
        return not {"Content-Length", "Transfer-Encoding"} & self._fields.keys()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """Refuse a second answer to one question."""
        if self._complete is not None:
            raise IncompleteResponseError("it answered twice")
        self._fields: CIMultiDict[str] = CIMultiDict()
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        if len(value) > MAX_HEAD_BYTES:
            raise IncompleteResponseError(f"it sent a header field of {len(value)} bytes")
        self._fields.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Refuse a body that is told to be too long."""
        self._in_body = True
        length = self._fields.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise ResponseTooLargeError(self._max_bytes)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            raise ResponseTooLargeError(self._max_bytes)

    def on_message_complete(self) -> None:
        """Make the answer of what was taken."""
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue, 103 Early Hints: the answer comes after it
            self._in_body = False
            self._head_bytes = 0
            return
        body = b"".join(self._body)
        if (packing := self._fields.get("Content-Encoding")) is not None:
            body = _unpacked(body, packing, self._max_bytes)
        self._keep = self._parser.should_keep_alive()
        self._complete = Response(status, self._fields, body)


def _meaning(error: HttpParserError, data: bytes) -> IncompleteResponseError:
    raised = error.__context__
    if isinstance(raised, IncompleteResponseError):  # by one of the parser's callbacks
        return raised
    return IncompleteResponseError(f"it does not speak HTTP: {data[:60]!r}")


def _unpacked(body: bytes, packing: str, max_bytes: int) -> bytes:
    """The body without its content coding."""
    if packing.lower() in ("", "identity"):
        return body
    if packing.lower() not in ("gzip", "x-gzip", "deflate"):
        raise IncompleteResponseError(f"its answer is packed with {packing!r}")
    unpacker = zlib.decompressobj(wbits=47)  # gzip's header, or zlib's
    try:
        plain = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise IncompleteResponseError(f"its packed answer is broken: {error}") from error
    if len(plain) > max_bytes:
        raise ResponseTooLargeError(max_bytes)
    if not unpacker.eof:
        raise IncompleteResponseError("its packed answer is cut")
    return plain
