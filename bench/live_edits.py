"""Measures the freshness of single edits, and of hundreds of edits per second.

The fakes run in threads of this process, so that all times are exact. The results show the CPU of
this process as theirs.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import orjson
import uvloop
from typing_extensions import override

from bench import machine
from bench.bare import connect, request_bytes
from bench.broker import Broker, open_broker
from bench.measurement import Measurement, Step, Target, Utilisation
from bench.program import Program, stream
from bench.rig import (
    EMBEDDER_SLOWEST,
    TIMEOUT_S,
    page_text,
    send_page,
    service_settings,
    wait_until,
)
from bench.scope import Scope
from bench.slowest import embedder
from gibsey_embedder.fakes.message import Reply, Request
from gibsey_embedder.fakes.ngrams import cheap_vector
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate

PAGES = 20
SPEED = EMBEDDER_SLOWEST
FULL = embedder(SPEED.request_s, SPEED.text_s)
LOAD = 0.7
WARM_UP = 0.1
"""Share of the edits under load that do not count."""
SHORT_FETCH = '{"fetch.wait.max.ms": 1}'
"""Unlike a real broker, the mock does not wake a waiting fetch."""

P50, P99 = Target(5), Target(15)
LOADED_P99 = Target(round(3 * 1000 * FULL.request_full_s))


def steps(scope: Scope) -> list[Step]:
    """Return the steps for single edits and for edits under load."""
    return [
        Step("edits", "live edits, idle", 6 + scope.edits / 9, partial(_idle, scope)),
        Step("loaded", "live edits, loaded", 7 + scope.loaded_s, partial(_loaded, scope)),
    ]


class _Services:
    """Broker and fakes of one run, with the time of each reply."""

    def __init__(self, broker: Broker, ollama: _Ollama, stargate: _Stargate, rag: _Rag) -> None:
        self.broker, self.ollama, self.stargate, self.rag = broker, ollama, stargate, rag

    def settings(self) -> dict[str, str]:
        urls = (self.ollama.url, self.stargate.url, self.rag.url)
        settings = service_settings(self.broker, *urls)
        return settings | ({"KAFKA_OPTIONS": SHORT_FETCH} if self.broker.options else {})

    def edit(self, number: int) -> tuple[float, float]:
        """Change a page; return its freshness and the stream's share of it, in milliseconds."""
        before = self._own_times()
        began = time.perf_counter()
        send_page(self.broker, f"page-{number % PAGES}", number, "u")
        self.wait_for(number)
        freshness = time.perf_counter() - began
        while self.stargate.stats.in_flight or self.rag.stats.in_flight:
            time.sleep(0.001)
        embed, store, notify = (b - a for a, b in zip(before, self._own_times(), strict=True))
        return 1000 * freshness, 1000 * (freshness - embed - max(store, notify))

    def wait_for(self, writes: int) -> None:
        """Wait until both outputs have received this number of pages."""
        stored = self.stargate.vectors.wait_for_writes(writes, TIMEOUT_S)
        if not (stored and self.rag.wait_for(writes, TIMEOUT_S)):
            raise TimeoutError(f"write {writes} did not arrive")

    def _own_times(self) -> tuple[float, ...]:
        return (self.ollama.served_s, self.stargate.stats.busy_s, self.rag.stats.busy_s)

    def embed_and_notify_s(self) -> float:
        """Return the seconds that the embedder and the RAG service have taken so far."""
        embed, _, notify = self._own_times()
        return embed + notify


class _Ollama(Ollama):
    """Counts the duration of requests including late timers, like the other fakes."""

    def __init__(self) -> None:
        super().__init__(request_s=SPEED.request_s, text_s=SPEED.text_s, cheap=True)
        self.served_s = 0.0

    @override
    async def reply_to(self, request: Request) -> Reply:
        began = time.perf_counter()
        try:
            return await super().reply_to(request)
        finally:
            self.served_s += time.perf_counter() - began


class _Stargate(Stargate):
    """Records the time of each row's reply."""

    def __init__(self) -> None:
        super().__init__(delay_s=SPEED.store_s)
        self.replied_at: dict[str, float] = {}

    @override
    async def reply_to(self, request: Request) -> Reply:
        reply = await super().reply_to(request)
        self.replied_at[request.path.rpartition("/")[2]] = time.perf_counter()
        return reply


class _Rag(Rag):
    """Records the time of each notification's reply."""

    def __init__(self) -> None:
        super().__init__(delay_s=SPEED.notify_s, record=False)
        self.replied_at: dict[str, float] = {}

    @override
    async def reply_to(self, request: Request) -> Reply:
        reply = await super().reply_to(request)
        self.replied_at[orjson.loads(request.body)["page_id"]] = time.perf_counter()
        return reply


@contextmanager
def _started(scope: Scope, workers: int = 1) -> Iterator[_Services]:
    """Start services and stream, and warm them up."""
    with (
        open_broker(scope.kafka) as broker,
        _Ollama() as ollama,
        _Stargate() as stargate,
        _Rag() as rag,
    ):
        services = _Services(broker, ollama, stargate, rag)
        settings = services.settings()
        with stream(settings, workers=workers, checkout=scope.checkout) as program:
            _warm_up(services, program)
            yield services


def _warm_up(services: _Services, program: Program) -> None:
    send_page(services.broker, "page-1", 1)
    wait_until(lambda: services.rag.stats.items == 1, program)
    for number in range(2, PAGES + 1):
        services.edit(number)


def _idle(scope: Scope) -> Iterable[Measurement]:
    """Change one page after the other, with pauses, and measure each change."""
    with _started(scope) as services, _UtilisationMeter() as meter:
        freshness, overhead = _edits(services, scope.edits)
        floor = uvloop.run(_bare_edits(services, scope.edits // 3))
    utilisation = meter.utilisation
    yield Measurement(
        "live edit, freshness p50", "ms", percentile(freshness, 50), None, utilisation
    )
    yield Measurement("live edit, overhead p50", "ms", percentile(overhead, 50), P50, utilisation)
    yield Measurement("live edit, overhead p99", "ms", percentile(overhead, 99), P99, utilisation)
    yield Measurement("live edit, floor: two bare requests, p50", "ms", statistics.median(floor))


def edits(scope: Scope, workers: int) -> Iterable[Measurement]:
    """Measure single edits with this number of workers, without the lower bound."""
    with _started(scope, workers) as services, _UtilisationMeter() as meter:
        freshness, overhead = _edits(services, scope.edits)
    name, utilisation = f"live edit, -w {workers}", meter.utilisation
    yield Measurement(f"{name}, freshness p50", "ms", percentile(freshness, 50), None, utilisation)
    yield Measurement(f"{name}, freshness p99", "ms", percentile(freshness, 99), None, utilisation)
    yield Measurement(f"{name}, overhead p50", "ms", percentile(overhead, 50), None, utilisation)


def _edits(services: _Services, edits: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the freshness of each edit and the stream's share of it, in milliseconds."""
    numbers = range(PAGES + 1, PAGES + edits + 1)
    freshness, overhead = zip(*(_after_a_pause(services, n) for n in numbers), strict=True)
    return freshness, overhead


def _after_a_pause(services: _Services, number: int) -> tuple[float, float]:
    time.sleep(_pause_s(number))
    return services.edit(number)


def _pause_s(number: int) -> float:
    return random.Random(number).uniform(0.02, 0.06)  # random, so that no two cycles synchronise


async def _bare_edits(services: _Services, edits: int) -> list[float]:
    """Send a prepared page to the embedder, and then a prepared vector to the RAG service.

    Returns:
        For each pair, the milliseconds beyond the time of the services, as `edit` measures it.
    """
    texts = orjson.dumps({"model": "nomic-embed-text", "input": [page_text(0)]})
    notice = b'{"page_id":"page-1","vector":%s}' % cheap_vector("a page")
    to_embedder, to_rag = await connect(services.ollama.url), await connect(services.rag.url)
    took, served = [], []
    for number in range(edits):
        await asyncio.sleep(_pause_s(number))
        served.append(services.embed_and_notify_s())
        began = time.perf_counter()
        await to_embedder.send(request_bytes("POST", "/api/embed", texts))
        await to_rag.send(request_bytes("POST", "/refresh", notice))
        took.append(time.perf_counter() - began)
    await asyncio.sleep(_pause_s(edits))
    served.append(services.embed_and_notify_s())
    return [1000 * (t + a - b) for t, (a, b) in zip(took, pairwise(served), strict=True)]


def _loaded(scope: Scope) -> Iterable[Measurement]:
    """Change pages at random times, at the rate of the load."""
    with _started(scope) as services:
        requests = services.ollama.stats.requests
        with _UtilisationMeter() as meter:
            sent = _send_for(services.broker, scope.loaded_s)
            services.wait_for(PAGES + len(sent))
        size = len(sent) / (services.ollama.stats.requests - requests)
    took = [1000 * (_arrived(services, page) - began) for page, began in sent.items()]
    counted, name = took[int(WARM_UP * len(took)) :], f"live edits, {LOAD:.0%} load"
    utilisation = meter.utilisation
    yield Measurement(f"{name}, freshness p50", "ms", percentile(counted, 50), None, utilisation)
    yield Measurement(
        f"{name}, freshness p99", "ms", percentile(counted, 99), LOADED_P99, utilisation
    )
    yield Measurement(f"{name}, pages a request", "pages", size)


def _send_for(broker: Broker, seconds: float) -> dict[str, float]:
    """Send new pages at random times; return when each was sent."""
    rate, chance = LOAD * FULL.pages_per_s, random.Random(7)
    sent: dict[str, float] = {}
    due = began = time.perf_counter()
    while due < began + seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        number = PAGES + 1 + len(sent)
        sent[f"page-{number}"] = time.perf_counter()
        send_page(broker, f"page-{number}", number)
        due += chance.expovariate(rate)
    return sent


def _arrived(services: _Services, page: str) -> float:
    return max(services.stargate.replied_at[page], services.rag.replied_at[page])


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile by linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class _UtilisationMeter:
    """Measures the CPU of this process and of the machine during a `with`."""

    def __enter__(self) -> _UtilisationMeter:
        self._began = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        began, ended = self._began, self._now()
        seconds, own, machine_s = (b - a for a, b in zip(began, ended, strict=True))
        machine_percent = 100 * machine_s / machine.CORES / seconds
        self.utilisation = Utilisation("all, with the bench", 100 * own / seconds, machine_percent)

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), time.process_time(), machine.cpu_s()
