"""What HTTP allows a server to do on a kept connection, byte by byte.

test_client.py tests what the pool and httpx have in common.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.http.connection import MAX_KNOWN_HEADS, HostConnections
from connectors.http.errors import IncompleteResponseError, ResponseTooLargeError
from connectors.http.pool import ConnectionPool
from connectors.http.response import Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request) -> Callable[..., object]:
    """Runs a conversation between a server and a client, on both kinds of event loop."""
    new_loop = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def once(server: Server, client: Callable[[ConnectionPool, str], Awaitable[object]]) -> object:
        loop = new_loop()
        try:
            return loop.run_until_complete(asyncio.wait_for(_talk(server, client), 20))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return once


async def _talk(
    server: Server, client: Callable[[ConnectionPool, str], Awaitable[object]]
) -> object:
    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await server(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(conversation, "127.0.0.1", 0)
    pool = ConnectionPool(lambda: pytest.fail("no TLS here"), 5.0)
    try:
        port = listening.sockets[0].getsockname()[1]
        return await client(pool, f"http://127.0.0.1:{port}")
    finally:
        pool.close()
        listening.close()


def send(pool: ConnectionPool, url: str, method: str = "GET", body: bytes | None = None, **more):
    options = {"headers": {}, "timeout_s": 5.0, "max_bytes": 1 << 20, **more}
    return pool.exchange(method, url, body=body, **options)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One complete request, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line[15:]))
    return head


def server_of(*responses: bytes) -> Server:
    """Send these responses, one for each request, on each connection, and then close it."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for response in responses:
            await read_request(reader)
            writer.write(response)
            await writer.drain()

    return server


async def body_of(pool: ConnectionPool, url: str) -> bytes:
    return (await send(pool, url)).body


@pytest.mark.parametrize(
    "response",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nT: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["length", "continue", "hints", "chunked", "until the end", "1.0", "no reason"],
)
def test_every_framing_of_a_body_is_parsed(run, response):
    assert run(server_of(response), body_of) == b"ok"


@given(cuts=st.lists(st.integers(1, 120), max_size=20))
@settings(max_examples=30, deadline=None)
def test_a_response_may_arrive_in_any_parts(cuts):
    whole = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
    edges = [0, *sorted({c for c in cuts if c < len(whole)}), len(whole)]

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for begin, end in itertools.pairwise(edges):
            writer.write(whole[begin:end])
            await writer.drain()
            await asyncio.sleep(0)

    assert uvloop.run(_talk(server, body_of)) == b"ok"


def test_a_connection_is_kept_after_a_response_without_a_body(run):
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def client(pool: ConnectionPool, url: str) -> list[int]:
        return [(await send(pool, url)).status for _ in range(2)]

    assert run(server_of(empty, OK), client) == [204, 200]


def test_a_kept_connection_that_the_server_closes_is_replaced_without_an_error(run):
    connections: list[int] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        if len(connections) == 1:
            await read_request(reader)  # read, and closed without a response

    async def client(pool: ConnectionPool, url: str) -> list[bytes]:
        return [(await send(pool, url)).body for _ in range(2)]

    assert run(server, client) == [b"ok", b"ok"]
    assert len(connections) == 2


def test_a_new_connection_that_is_closed_is_an_error_and_not_retried(run):
    connections: list[int] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await read_request(reader)

    async def client(pool: ConnectionPool, url: str) -> None:
        with pytest.raises(IncompleteResponseError):
            await send(pool, url)

    run(server, client)
    assert len(connections) == 1


def test_a_server_that_speaks_first_is_an_error_at_once(run):
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        await reader.read()

    async def client(pool: ConnectionPool, url: str) -> None:
        with pytest.raises(IncompleteResponseError):
            await send(pool, url)

    run(server, client)


def test_half_a_response_on_a_kept_connection_is_an_error_and_not_retried(run):
    async def client(pool: ConnectionPool, url: str) -> None:
        await send(pool, url)
        with pytest.raises(IncompleteResponseError):
            await send(pool, url)

    run(server_of(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), client)


@pytest.mark.parametrize(
    "last",
    [
        OK + b"HTTP/1.1 200 OK\r\n\r\n",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK + OK,
    ],
    ids=["half a second response", "close", "two responses"],
)
def test_a_connection_with_bytes_after_its_response_is_not_kept(run, last):
    peers: set[object] = set()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            peers.add(writer.get_extra_info("peername"))
            writer.write(last)
            await writer.drain()

    async def client(pool: ConnectionPool, url: str) -> list[bytes]:
        return [(await send(pool, url)).body for _ in range(3)]

    assert run(server, client) == [b"ok"] * 3
    assert len(peers) == 3


def test_a_response_without_a_request_is_dropped(run):
    extra: list[str] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        if not extra:
            extra.append("sent")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
            await writer.drain()
            assert await reader.read() == b""

    async def client(pool: ConnectionPool, url: str) -> bytes:
        await send(pool, url)
        await asyncio.sleep(0.05)  # the response without a request arrives
        return (await send(pool, url)).body

    assert run(server, client) == b"ok"


def test_a_cancelled_caller_leaves_no_response_for_the_next_request(run):
    requests = 0

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        if requests == 1:
            await reader.read()
        writer.write(OK)
        await writer.drain()

    async def client(pool: ConnectionPool, url: str) -> bytes:
        waiting = asyncio.ensure_future(send(pool, url))
        while not requests:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return (await send(pool, url)).body

    assert run(server, client) == b"ok"


def test_a_large_body_arrives_complete(run):
    sent = bytes(range(256)) * 20_000
    received: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append((await read_request(reader)).partition(b"\r\n\r\n")[2])
        writer.write(OK)
        await writer.drain()

    async def client(pool: ConnectionPool, url: str) -> Response:
        return await send(pool, url, "PUT", sent)

    run(server, client)
    assert received == [sent]


def test_each_of_many_concurrent_requests_gets_its_own_response(run):
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            body = (await read_request(reader)).partition(b"\r\n\r\n")[2]
            await asyncio.sleep(len(body) % 3 / 1000)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def client(pool: ConnectionPool, url: str) -> None:
        async def one(number: int) -> None:
            body = b"x" * number
            assert (await send(pool, url, "POST", body)).body == body

        for _ in range(3):
            await asyncio.gather(*(one(n) for n in range(40)))

    run(server, client)


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ü", "/a\x00"])
def test_a_path_that_would_break_the_request_line_is_rejected(run, path):
    async def client(pool: ConnectionPool, url: str) -> None:
        with pytest.raises(ValueError, match="percent-encoded"):
            await send(pool, url + path)

    run(server_of(OK), client)


def test_a_fragment_is_not_sent_and_a_missing_path_is_the_root(run):
    lines: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await read_request(reader)).partition(b"\r\n")[0])
        writer.write(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        await writer.drain()

    async def client(pool: ConnectionPool, url: str) -> None:
        for rest in ("", "?a=b", "/x?y#z"):
            await send(pool, url + rest)

    run(server, client)
    assert lines == [b"GET / HTTP/1.1", b"GET /?a=b HTTP/1.1", b"GET /x?y HTTP/1.1"]


def test_an_authorization_header_replaces_the_login_of_the_url(run):
    heads: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))
        writer.write(OK)
        await writer.drain()

    async def client(pool: ConnectionPool, url: str) -> None:
        url = url.replace("http://", "http://user:pass@")
        await send(pool, url, headers={"Authorization": "Bearer token"})

    run(server, client)
    assert heads[0].count(b"uthorization") == 1
    assert b"Bearer token" in heads[0]


HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
]


@given(
    responses=st.lists(
        st.tuples(
            st.integers(0, len(HEADS) - 1), st.sampled_from([b"", b"ok", b"no", b"\r\n\r\n"])
        ),
        min_size=2,
        max_size=12,
    ),
    cuts=st.sets(st.integers(1, 60), max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_a_response_with_a_known_head_is_read_like_the_first(responses, cuts):
    """Every second one in parts: a known head may arrive without its body, or only half."""
    whole = [HEADS[number] % len(body) + body for number, body in responses]
    left = iter(enumerate(whole))

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            number, response = next(left)
            edges = [0, *sorted(c for c in cuts if c < len(response) and number % 2), len(response)]
            for begin, end in itertools.pairwise(edges):
                writer.write(response[begin:end])
                await writer.drain()
                await asyncio.sleep(0.001)

    async def client(pool: ConnectionPool, url: str) -> None:
        for number, body in responses:
            response = await send(pool, url)
            assert response.body == body
            assert response.status == (503 if number == 1 else 200)
            assert response.retry_after_s == (7.0 if number == 1 else None)

    uvloop.run(_talk(server, client))


def test_a_known_head_with_a_body_that_is_too_large_is_rejected(run):
    async def client(pool: ConnectionPool, url: str) -> None:
        assert (await send(pool, url)).body == b"ok"
        with pytest.raises(ResponseTooLargeError):
            await send(pool, url, max_bytes=1)

    run(server_of(OK, OK), client)


def test_bytes_after_a_response_with_a_known_head_are_not_the_next_response(run):
    async def client(pool: ConnectionPool, url: str) -> list[bytes]:
        return [(await send(pool, url)).body for _ in range(3)]

    assert run(server_of(OK, OK + OK.replace(b"ok", b"no")), client) == [b"ok"] * 3


def test_the_known_heads_are_limited(run):
    """Some services number their responses."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in itertools.count():
            await read_request(reader)
            writer.write(OK.replace(b"OK\r\n", b"OK\r\nX-Request-Id: %d\r\n" % number))
            await writer.drain()

    async def client(pool: ConnectionPool, url: str) -> None:
        for number in range(3 * MAX_KNOWN_HEADS):
            assert (await send(pool, url)).headers["x-request-id"] == str(number)
        heads = [value for value in gc.get_objects() if isinstance(value, HostConnections)]
        assert heads
        assert all(len(host.known_heads) <= MAX_KNOWN_HEADS for host in heads)

    run(server, client)
