"""confluent-kafka and asyncio by hand: a batch of 32, then its outputs at once, then the next.

No checkpoints, no retries, no order of a page's writes: the least that could be called a worker.
On aiohttp, since httpx's own transport would cost it two thirds of its speed.
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
    """Read a batch, embed it, hand it to both outputs, and wait for them."""
    consumer = Consumer({**CONSUMER, "enable.auto.commit": False})
    consumer.subscribe([TOPIC])
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        while True:
            messages = await asyncio.to_thread(consumer.consume, WINDOW_PAGES, 0.01)
            pages = [orjson.loads(m.value() or b"{}") for m in messages if m.error() is None]
            if pages:
                await _do(http, pages)
                consumer.commit(asynchronous=True)


async def _do(http: aiohttp.ClientSession, pages: list[dict[str, Any]]) -> None:
    order = orjson.dumps({"model": MODEL, "input": [page["body"] for page in pages]})
    async with http.post(f"{EMBED_URL}/api/embed", data=order) as answer:
        vectors = orjson.loads(await answer.read())["embeddings"]
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
    async with http.request(method, url, data=body, headers=headers) as answer:
        await answer.read()


if __name__ == "__main__":
    asyncio.run(main())
