"""One HTTP/1.1 connection: one request at a time, and the parser of its answer.

OSError
├── CutOff             no whole answer, or none that is HTTP
│   └── AnswerTooLong
└── …                  what sockets and TLS raise
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict
from typing_extensions import override

MAX_HEAD_BYTES = 64 * 1024


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


class Connection(asyncio.Protocol):
    """A connection, which puts itself among the idle ones after each whole answer.

    Args:
        loop: The loop that it belongs to.
        idle: The connections to the same place that wait for work.

    Attributes:
        heard: Whether a byte came since the latest request.
        used_at: When its latest answer was complete (seconds of the monotonic clock).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: list[Connection]) -> None:
        self._loop = loop
        self._idle = idle
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
            self._idle.append(self)
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
        if self in self._idle:
            self._idle.remove(self)
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
        """Refuse a second answer to one question."""
        if self._complete is not None:
            raise CutOff("it answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        if len(value) > MAX_HEAD_BYTES:
            raise CutOff(f"it sent a header field of {len(value)} bytes")
        self._fields.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Refuse a body that is told to be too long."""
        self._in_body = True
        length = self._fields.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise AnswerTooLong

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            raise AnswerTooLong

    def on_message_complete(self) -> None:
        """Make the answer of what was taken."""
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
