"""One page at a time with blocking calls, like the worker that this program replaced."""

from __future__ import annotations

import httpx
import orjson
from confluent_kafka import Consumer

from bench.peers.services import CONSUMER, TOPIC, embed_one, notify, store


def main() -> None:
    """Read, embed, store and notify in a loop."""
    consumer = Consumer(CONSUMER)
    consumer.subscribe([TOPIC])
    with httpx.Client() as http:
        while True:
            message = consumer.poll(1.0)
            if message is None or message.error() is not None:
                continue
            page = orjson.loads(message.value() or b"{}")
            vector = embed_one(http, page["body"])
            store(http, page["page_id"], vector)
            notify(http, page["page_id"], vector)


if __name__ == "__main__":
    main()
