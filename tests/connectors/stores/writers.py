"""Rows and writers for the tests of the outputs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import orjson

from connectors.core.errors import Rejection
from connectors.core.records import PageVector, Record
from connectors.http.client import HttpClient
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.stores.error_attribution import ErrorAttribution
from connectors.stores.stargate.auth import FixedToken, TokenSource
from connectors.stores.stargate.rest import StargateRest
from connectors.stores.stargate.service import SERVICE
from connectors.stores.stargate.session import StargateSession
from connectors.stores.stargate.table import StargateTable
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from tests.connectors.http.clients import using

T = TypeVar("T")
R = TypeVar("R")


class Writes(Protocol):
    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]: ...


class FastClock:
    """A clock that advances with every reading, so that long timeouts end within a test."""

    def __init__(self, step_s: float) -> None:
        self._now, self._step_s = 0.0, step_s

    def __call__(self) -> float:
        self._now += self._step_s
        return self._now


class Watched:
    """The metrics and stalls of a writer, for assertions."""

    def __init__(self) -> None:
        self.metrics = Metrics([SERVICE])
        self.stalls = Stalls(self.metrics)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def upserts(self) -> float:
        return self.count("gibsey_page_vectors_upserts_total")

    def requests(self, stage: str) -> float:
        return self.count("gibsey_stage_seconds_count", stage=stage)

    def stall(self, service: str) -> str:
        """Reason and remedy of the current stall of a service."""
        return "".join(
            f"{s.reason} / {s.remedy}" for s in self.stalls.current() if s.service == service
        )


def vector_of(seed: int) -> bytes:
    return _vector_of(seed % 97)


@functools.cache
def _vector_of(seed: int) -> bytes:
    return orjson.dumps([round(seed / 1000 + i / 7680, 6) for i in range(768)])


def row_of(page_id: str, seed: int = 1, *, model: str = "nomic", vector: bytes = b"") -> PageVector:
    record = Record("cdc.pages", 0, seed, 0, None, b"{}")
    return PageVector(page_id, vector or vector_of(seed), record, model=model)


def pages(count: int) -> list[PageVector]:
    return [row_of(f"p{n}", n) for n in range(count)]


def delete_of(page_id: str) -> PageVector:
    return PageVector(page_id, None, Record("cdc.pages", 0, 0, 0, None, b"{}"))


def rest_of(
    server: Stargate,
    watched: Watched,
    *,
    tokens: TokenSource | None = None,
    timeout_s: float = 5.0,
    attribution: ErrorAttribution | None = None,
    table: str = "page_vectors",
    model_column: str | None = None,
    concurrency: int = 32,
) -> Callable[[HttpClient], StargateRest]:
    def make(http: HttpClient) -> StargateRest:
        session = StargateSession(http, tokens or FixedToken(TOKEN), timeout_s, watched.metrics)
        target = StargateTable(server.url, "gibsey", table, model_column)
        return StargateRest(
            session, watched.stalls, watched.metrics, target, concurrency, attribution
        )

    return make


def write(make: Callable[[HttpClient], Writes], *rows: PageVector) -> dict[int, Rejection]:
    """Write rows in one call, with a client of its own."""
    return using(make, lambda writer: writer.write(rows))


def with_writer(make: Callable[[HttpClient], T], use: Callable[[T], Awaitable[R]]) -> R:
    return using(make, use)


def write_and_repair(make, watched: Watched, repair: Callable[[], object], *rows: PageVector):
    """Write rows to a broken Stargate, and repair it once the writer reports the stall.

    Returns:
        The text of the stall, and the rows that were rejected in the end.
    """

    async def use(writer: Writes) -> tuple[str, dict[int, Rejection]]:
        writing = asyncio.ensure_future(writer.write(rows))
        stall = await until(lambda: watched.stall("stargate"))
        assert not writing.done()
        repair()
        return stall, await writing

    return with_writer(make, use)


async def until(condition: Callable[[], T]) -> T:
    """Wait until a condition is true; another thread or task changes it."""
    while not (result := condition()):
        await asyncio.sleep(0.005)
    return result
