"""The obvious Bytewax flow: collect -> map -> sink, with blocking steps.

Like the stream, it has windows of 32 pages and 32 requests in flight to its outputs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import bytewax.operators as op
import httpx
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from typing_extensions import override

from bench.peers.services import CONSUMER, TOPIC, embed_many, notify, store

WINDOW_PAGES = 32
IN_FLIGHT = 32
WINDOW_TIMEOUT = timedelta(milliseconds=10)

Row = tuple[str, list[float]]


class _Outputs(StatelessSinkPartition[Row]):
    """Stargate and the RAG service, a batch at a time."""

    def __init__(self) -> None:
        self._http = httpx.Client(limits=httpx.Limits(max_connections=None))
        self._threads = ThreadPoolExecutor(2 * IN_FLIGHT)

    @override
    def write_batch(self, items: list[Row]) -> None:
        done = [
            self._threads.submit(output, self._http, *row)
            for row in items
            for output in (store, notify)
        ]
        for future in done:
            future.result()


class _Sink(DynamicSink[Row]):
    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Outputs:
        return _Outputs()


def _decode(record: Any) -> Any:
    return orjson.loads(record.value)


def flow() -> Dataflow:
    """Connect the steps."""
    http = httpx.Client()

    def embed(item: tuple[str, list[dict[str, str]]]) -> list[Row]:
        _, pages = item
        vectors = embed_many(http, [page["body"] for page in pages])
        return [(page["page_id"], v) for page, v in zip(pages, vectors, strict=True)]

    flow = Dataflow("collect")
    options: dict[str, Any] = {k: str(v) for k, v in CONSUMER.items()}
    brokers = [options.pop("bootstrap.servers")]
    source = KafkaSource(brokers, [TOPIC], add_config=options, batch_size=WINDOW_PAGES)
    records = op.input("kafka", flow, source)
    pages = op.map("decode", records, _decode)
    keyed = op.key_on("key", pages, lambda _: "all")
    windows = op.collect("window", keyed, timeout=WINDOW_TIMEOUT, max_size=WINDOW_PAGES)
    rows = op.flat_map("embed", windows, embed)
    op.output("outputs", rows, _Sink())
    return flow
