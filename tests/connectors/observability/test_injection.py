"""A page id cannot change a request beyond its own page."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import unquote

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.core.errors import Rejection
from connectors.core.records import DeadLetter, Record
from connectors.http.client import HttpClient
from connectors.kafka.dead_letters.message import Payload, headers_of, one_line
from connectors.rag.notifier import RagNotifier
from connectors.stores.stargate.auth import FixedToken
from connectors.stores.stargate.rest import StargateRest
from connectors.stores.stargate.session import StargateSession
from connectors.stores.stargate.table import StargateTable
from tests.connectors.stores.writers import Watched, row_of

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
awkward = st.text(st.sampled_from(list("\r\n\t /\\?#%&:;@.'\"\x0b\x85\u2028aX")), min_size=1)
ATTACKS = (
    "a\r\nX-Cassandra-Token: other",
    "a HTTP/1.1\r\nHost: other\r\n\r\nDELETE /v2/keyspaces/system",
    "../../../v1/auth",
    "a?raw=true#x",
    "@other.host/",
)


class Recorder:
    """A server that records its requests, and its client; both on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._http = HttpClient()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._respond, "127.0.0.1", 0)
        )
        self._url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._requests: list[tuple[str, set[str], bytes]] = []

    def requests_of(
        self, send: Callable[[HttpClient, str], Awaitable[object]]
    ) -> list[tuple[str, set[str], bytes]]:
        """Request line, names of the header fields, and body of each request."""
        self._requests = []
        self._loop.run_until_complete(send(self._http, self._url))
        return self._requests

    def close(self) -> None:
        self._loop.run_until_complete(self._http.close())
        self._server.close()
        responding = asyncio.all_tasks(self._loop)  # they end with their connections
        if responding:
            self._loop.run_until_complete(asyncio.wait(responding, timeout=5))
        self._loop.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await self._head(reader):
            line, *fields = head.decode("latin-1").split("\r\n")
            pairs = dict(field.split(": ", 1) for field in fields)
            body = await reader.readexactly(int(pairs.get("Content-Length", 0)))
            self._requests.append((line, set(pairs), body))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return (await reader.readuntil(b"\r\n\r\n"))[:-4]
        except asyncio.IncompleteReadError:
            return b""


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@settings(max_examples=60, deadline=None)
@given(ids | awkward)
@example(ATTACKS[0])
@example(ATTACKS[1])
@example(ATTACKS[2])
@example(ATTACKS[3])
@example(ATTACKS[4])
def test_a_page_id_is_one_segment_of_one_request_and_adds_no_header(recorder, page_id):
    async def send(http: HttpClient, url: str) -> None:
        watched = Watched()
        session = StargateSession(http, FixedToken("token"))
        table = StargateTable(url, "gibsey", "page_vectors", None)
        await StargateRest(session, watched.stalls, watched.metrics, table).write([row_of(page_id)])

    ((line, fields, _),) = recorder.requests_of(send)
    match = re.fullmatch(r"PUT /v2/keyspaces/gibsey/page_vectors/([^/?# ]+) HTTP/1\.1", line)
    assert match
    assert page_id.replace("'", "") in unquote(match[1]).replace("'", "")
    assert fields == _fields("X-Cassandra-Token")


@settings(max_examples=60, deadline=None)
@given(ids | awkward)
@example(ATTACKS[0])
@example('","vector":[1],"page_id":"other')
def test_a_page_id_stays_one_string_in_a_notification(recorder, page_id):
    async def send(http: HttpClient, url: str) -> dict[int, Rejection]:
        watched = Watched()
        rag = RagNotifier(http, watched.stalls, watched.metrics, f"{url}/refresh", "token")
        return await rag.write([row_of(page_id)])

    ((line, fields, body),) = recorder.requests_of(send)
    assert line == "POST /refresh HTTP/1.1"
    assert fields == _fields("Authorization")
    event = orjson.loads(body)
    assert list(event) == ["page_id", "vector"]
    assert (event["page_id"], len(event["vector"])) == (page_id, 768)


@given(st.text() | awkward)
def test_the_detail_of_a_dead_letter_is_one_line_of_limited_length(detail):
    dead_letter = DeadLetter(Record("t", 0, 1, 2, b"key", b"value"), "undecodable", detail)
    headers = headers_of(dead_letter, dt.datetime.now(dt.timezone.utc), Payload.WHOLE)
    assert [name for name, _ in headers][:4] == ["reason", "detail", "origin", "failed-at"]
    assert one_line(detail).isprintable()
    assert len(one_line(detail)) <= 500


def _fields(login: str) -> set[str]:
    usual = {"Host", "Content-Type", "Content-Length", "Accept", "Accept-Encoding", "User-Agent"}
    return usual | {login}
