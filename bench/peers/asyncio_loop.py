"""confluent-kafka in an asyncio loop: embed a batch of 32, send its outputs concurrently, repeat.

It is a minimal worker: no checkpoints, no retries, no order of the writes to a page. It uses
aiohttp, because httpx would cost two thirds of its speed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
from confluent_kafka import Consumer

from bench.peers.services import CONSUMER, EMBED_URL, HEADERS, MODEL, RAG_URL, TOPIC, row_url

WINDOW_PAGES = 32


async def main() -> None:
    """Read a batch, embed it, send it to both outputs, and wait for them."""
    consumer = Consumer({**CONSUMER, "enable.auto.commit": False})
    consumer.subscribe([TOPIC])
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        while True:
            messages = await asyncio.to_thread(consumer.consume, WINDOW_PAGES, 0.01)
            pages = [orjson.loads(m.value() or b"{}") for m in messages if m.error() is None]
            if pages:
                await _process(http, pages)
                consumer.commit(asynchronous=True)


async def _process(http: aiohttp.ClientSession, pages: list[dict[str, Any]]) -> None:
    body = orjson.dumps({"model": MODEL, "input": [page["body"] for page in pages]})
    async with http.post(f"{EMBED_URL}/api/embed", data=body) as response:
        vectors = orjson.loads(await response.read())["embeddings"]
    ids = [page["page_id"] for page in pages]
    await asyncio.gather(*(_deliver(http, *row) for row in zip(ids, vectors, strict=True)))


async def _deliver(http: aiohttp.ClientSession, page_id: str, vector: list[float]) -> None:
    row = orjson.dumps({"vector": vector})
    page = orjson.dumps({"page_id": page_id, "vector": vector})
    await asyncio.gather(
        _send(http, "PUT", row_url(page_id), row, HEADERS), _send(http, "POST", RAG_URL, page, {})
    )


async def _send(
    http: aiohttp.ClientSession, method: str, url: str, body: bytes, headers: dict[str, str]
) -> None:
    async with http.request(method, url, data=body, headers=headers) as response:
        await response.read()


if __name__ == "__main__":
    asyncio.run(main())
