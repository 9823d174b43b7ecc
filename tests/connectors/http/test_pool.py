"""What HTTP allows a server to do on a kept connection, byte by byte.

What both ways of asking have in common is in test_http.py.
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

from connectors.http.connection import MAX_HEADS, HostConnections
from connectors.http.errors import IncompleteResponseError, ResponseTooLargeError
from connectors.http.pool import ConnectionPool
from connectors.http.response import Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request) -> Callable[..., object]:
    """Runs a conversation between a server and what asks it, on both kinds of loop."""
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
    wire = ConnectionPool(lambda: pytest.fail("no TLS here"), 5.0)
    try:
        port = listening.sockets[0].getsockname()[1]
        return await client(wire, f"http://127.0.0.1:{port}")
    finally:
        wire.close()
        listening.close()


def ask(wire: ConnectionPool, url: str, method: str = "GET", body: bytes | None = None, **more):
    options = {"headers": {}, "timeout_s": 5.0, "max_bytes": 1 << 20, **more}
    return wire.exchange(method, url, body=body, **options)


async def question(reader: asyncio.StreamReader) -> bytes:
    """One whole question, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line[15:]))
    return head


def saying(*answers: bytes) -> Server:
    """Give these answers, one a question, on each connection, and then hang up."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await question(reader)
            writer.write(answer)
            await writer.drain()

    return server


async def body_of(wire: ConnectionPool, url: str) -> bytes:
    return (await ask(wire, url)).body


@pytest.mark.parametrize(
    "answer",
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
def test_every_way_to_send_a_body_is_understood(run, answer):
    assert run(saying(answer), body_of) == b"ok"


@given(cuts=st.lists(st.integers(1, 120), max_size=20))
@settings(max_examples=30, deadline=None)
def test_an_answer_may_come_in_any_pieces(cuts):
    whole = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n"
    edges = [0, *sorted({c for c in cuts if c < len(whole)}), len(whole)]

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        for begin, end in itertools.pairwise(edges):
            writer.write(whole[begin:end])
            await writer.drain()
            await asyncio.sleep(0)

    assert uvloop.run(_talk(server, body_of)) == b"ok"


def test_an_answer_without_a_body_leaves_the_connection_fit_for_the_next(run):
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def client(wire: ConnectionPool, url: str) -> list[int]:
        return [(await ask(wire, url)).status for _ in range(2)]

    assert run(saying(empty, OK), client) == [204, 200]


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_without_a_word(run):
    connections: list[int] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await question(reader)
        writer.write(OK)
        await writer.drain()
        if len(connections) == 1:
            await question(reader)  # read, and hung up on without an answer

    async def client(wire: ConnectionPool, url: str) -> list[bytes]:
        return [(await ask(wire, url)).body for _ in range(2)]

    assert run(server, client) == [b"ok", b"ok"]
    assert len(connections) == 2


def test_a_new_connection_that_is_closed_is_told_and_not_tried_again(run):
    connections: list[int] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await question(reader)

    async def client(wire: ConnectionPool, url: str) -> None:
        with pytest.raises(IncompleteResponseError):
            await ask(wire, url)

    run(server, client)
    assert len(connections) == 1


def test_a_server_that_speaks_first_is_told_at_once(run):
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        await reader.read()

    async def client(wire: ConnectionPool, url: str) -> None:
        with pytest.raises(IncompleteResponseError):
            await ask(wire, url)

    run(server, client)


def test_half_an_answer_on_a_kept_connection_is_told_and_not_tried_again(run):
    async def client(wire: ConnectionPool, url: str) -> None:
        await ask(wire, url)
        with pytest.raises(IncompleteResponseError):
            await ask(wire, url)

    run(saying(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), client)


@pytest.mark.parametrize(
    "last",
    [
        OK + b"HTTP/1.1 200 OK\r\n\r\n",
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK + OK,
    ],
    ids=["more than was asked for", "close", "two answers"],
)
def test_a_connection_whose_answers_could_be_mixed_up_is_not_kept(run, last):
    peers: set[object] = set()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await question(reader)
            peers.add(writer.get_extra_info("peername"))
            writer.write(last)
            await writer.drain()

    async def client(wire: ConnectionPool, url: str) -> list[bytes]:
        return [(await ask(wire, url)).body for _ in range(3)]

    assert run(server, client) == [b"ok"] * 3
    assert len(peers) == 3


def test_an_answer_that_nobody_asked_for_is_nobodys(run):
    told: list[str] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await question(reader)
        writer.write(OK)
        await writer.drain()
        if not told:
            told.append("unasked")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
            await writer.drain()
            assert await reader.read() == b""

    async def client(wire: ConnectionPool, url: str) -> bytes:
        await ask(wire, url)
        await asyncio.sleep(0.05)  # what was not asked for arrives
        return (await ask(wire, url)).body

    assert run(server, client) == b"ok"


def test_a_caller_who_gives_up_leaves_no_answer_behind_for_the_next(run):
    asked = 0

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await question(reader)
        asked += 1
        if asked == 1:
            await reader.read()
        writer.write(OK)
        await writer.drain()

    async def client(wire: ConnectionPool, url: str) -> bytes:
        waiting = asyncio.ensure_future(ask(wire, url))
        while not asked:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return (await ask(wire, url)).body

    assert run(server, client) == b"ok"


def test_a_body_of_any_size_arrives_whole(run):
    sent = bytes(range(256)) * 20_000
    came: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append((await question(reader)).partition(b"\r\n\r\n")[2])
        writer.write(OK)
        await writer.drain()

    async def client(wire: ConnectionPool, url: str) -> Response:
        return await ask(wire, url, "PUT", sent)

    run(server, client)
    assert came == [sent]


def test_many_questions_at_once_get_each_its_own_answer(run):
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            said = (await question(reader)).partition(b"\r\n\r\n")[2]
            await asyncio.sleep(len(said) % 3 / 1000)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    async def client(wire: ConnectionPool, url: str) -> None:
        async def one(number: int) -> None:
            said = b"x" * number
            assert (await ask(wire, url, "POST", said)).body == said

        for _ in range(3):
            await asyncio.gather(*(one(n) for n in range(40)))

    run(server, client)


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ü", "/a\x00"])
def test_a_path_that_would_break_the_request_line_is_refused(run, path):
    async def client(wire: ConnectionPool, url: str) -> None:
        with pytest.raises(ValueError, match="percent-encoded"):
            await ask(wire, url + path)

    run(saying(OK), client)


def test_what_follows_a_hash_is_not_sent_and_a_missing_path_is_the_root(run):
    lines: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await question(reader)).partition(b"\r\n")[0])
        writer.write(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        await writer.drain()

    async def client(wire: ConnectionPool, url: str) -> None:
        for rest in ("", "?a=b", "/x?y#z"):
            await ask(wire, url + rest)

    run(server, client)
    assert lines == [b"GET / HTTP/1.1", b"GET /?a=b HTTP/1.1", b"GET /x?y HTTP/1.1"]


def test_a_header_of_the_caller_goes_before_the_login_of_the_url(run):
    heads: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await question(reader))
        writer.write(OK)
        await writer.drain()

    async def client(wire: ConnectionPool, url: str) -> None:
        url = url.replace("http://", "http://user:pass@")
        await ask(wire, url, headers={"Authorization": "Bearer token"})

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
    answers=st.lists(
        st.tuples(
            st.integers(0, len(HEADS) - 1), st.sampled_from([b"", b"ok", b"no", b"\r\n\r\n"])
        ),
        min_size=2,
        max_size=12,
    ),
    cuts=st.sets(st.integers(1, 60), max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_an_answer_whose_head_came_before_is_read_like_the_first(answers, cuts):
    """Every second one in pieces: a known head may come without its body, or half."""
    whole = [HEADS[number] % len(body) + body for number, body in answers]
    left = iter(enumerate(whole))

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await question(reader)
            number, answer = next(left)
            edges = [0, *sorted(c for c in cuts if c < len(answer) and number % 2), len(answer)]
            for begin, end in itertools.pairwise(edges):
                writer.write(answer[begin:end])
                await writer.drain()
                await asyncio.sleep(0.001)

    async def client(wire: ConnectionPool, url: str) -> None:
        for number, body in answers:
            answer = await ask(wire, url)
            assert answer.body == body
            assert answer.status == (503 if number == 1 else 200)
            assert answer.retry_after_s == (7.0 if number == 1 else None)

    uvloop.run(_talk(server, client))


def test_a_known_head_with_a_longer_body_than_is_allowed_is_refused(run):
    async def client(wire: ConnectionPool, url: str) -> None:
        assert (await ask(wire, url)).body == b"ok"
        with pytest.raises(ResponseTooLargeError):
            await ask(wire, url, max_bytes=1)

    run(saying(OK, OK), client)


def test_more_than_a_known_answer_is_not_taken_for_the_next_one(run):
    async def client(wire: ConnectionPool, url: str) -> list[bytes]:
        return [(await ask(wire, url)).body for _ in range(3)]

    assert run(saying(OK, OK + OK.replace(b"ok", b"no")), client) == [b"ok"] * 3


def test_heads_that_never_come_again_are_not_collected(run):
    """Many a service numbers its answers."""

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in itertools.count():
            await question(reader)
            writer.write(OK.replace(b"OK\r\n", b"OK\r\nX-Request-Id: %d\r\n" % number))
            await writer.drain()

    async def client(wire: ConnectionPool, url: str) -> None:
        for number in range(3 * MAX_HEADS):
            assert (await ask(wire, url)).headers["x-request-id"] == str(number)
        heads = [value for value in gc.get_objects() if isinstance(value, HostConnections)]
        assert heads
        assert all(len(peers.heads) <= MAX_HEADS for peers in heads)

    run(server, client)
