"""The lower bound for any client: a bare asyncio loop on uvloop sends the stream's requests.

It has no Kafka, no JSON, no checks of responses, no order and no retries; every body is prepared.
It prints the CPU per page in milliseconds, for all threads, user and system.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import uvloop

from bench.bare import BareConnection, connect, request_bytes, send_all
from bench.peers.services import EMBED_URL, HEADERS, MODEL, RAG_URL, STARGATE_URL
from bench.rig import page_text
from gibsey_embedder.fakes.ngrams import cheap_vector

PAGES = int(os.environ.get("PAGES", "1"))
WINDOW_PAGES, BULK_ROWS = 32, 100
QUERY = b"mutation($v:[page_vectorsInput!]){bulkInsertpage_vectors(values:$v){applied}}"
TOKEN = [f"{name}: {value}" for name, value in HEADERS.items()]
VECTOR = cheap_vector("a page")


def _windows() -> Iterator[bytes]:
    texts = b",".join([b'"%s"' % page_text(0).encode()] * WINDOW_PAGES)
    body = b'{"model":"%s","input":[%s]}' % (MODEL.encode(), texts)
    for _ in range(0, PAGES, WINDOW_PAGES):
        yield request_bytes("POST", "/api/embed", body)


def _rows() -> Iterator[bytes]:
    body = b'{"vector":%s}' % VECTOR
    for number in range(PAGES):
        path = f"/v2/keyspaces/gibsey/page_vectors/page-{number}"
        yield request_bytes("PUT", path, body, *TOKEN)


def _bulks() -> Iterator[bytes]:
    for first in range(0, PAGES, BULK_ROWS):
        rows = b",".join(map(_row, range(first, min(PAGES, first + BULK_ROWS))))
        body = b'{"query":"%s","variables":{"v":[%s]}}' % (QUERY, rows)
        yield request_bytes("POST", "/graphql/gibsey", body, *TOKEN)


def _notifications() -> Iterator[bytes]:
    for number in range(PAGES):
        yield request_bytes("POST", "/refresh", _row(number))


def _row(number: int) -> bytes:
    return b'{"page_id":"page-%d","vector":%s}' % (number, VECTOR)


async def main() -> None:
    """Send all requests and print the CPU per page."""
    bulk = os.environ.get("STARGATE_BULK") == "graphql"
    rows, at_once = (_bulks(), 4) if bulk else (_rows(), 32)
    windows, stored = await _open(EMBED_URL, 2), await _open(STARGATE_URL, at_once)
    notified = await _open(RAG_URL, 32)
    began = time.process_time()
    await asyncio.gather(
        send_all(windows, _windows()),
        send_all(stored, rows),
        send_all(notified, _notifications()),
    )
    print(1000 * (time.process_time() - began) / PAGES)


async def _open(url: str, number: int) -> list[BareConnection]:
    return [await connect(url) for _ in range(number)]


if __name__ == "__main__":
    uvloop.run(main())
