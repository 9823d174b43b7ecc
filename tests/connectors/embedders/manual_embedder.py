"""An embedder that a test controls, and a batcher that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from connectors.embedders.base import ModelInfo
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.batcher import Batcher
from connectors.embedders.batching.error_attribution import MIN_FAILING_S
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.batching.throughput import TARGET_S
from connectors.embedders.cache import VectorCache
from connectors.embedders.endpoint import CONCURRENCY
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.embedders.failover import Failover
from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import MIN_STALL_S, Stalls
from connectors.runtime.event_loop import EventLoop
from tests.eventually import eventually

VECTOR = b"[0.6,0.8]"

Vectors = Sequence["bytes | None"]
Behaviour = Callable[[Sequence[str]], Vectors]


def accept_all(texts: Sequence[str]) -> Vectors:
    """Return a vector for each text."""
    return [VECTOR] * len(texts)


class ManualRequest:
    """A request that waits until the test responds."""

    def __init__(self, texts: Sequence[str], timeout_s: float, truncate: bool) -> None:
        self.texts = list(texts)
        self.timeout_s = timeout_s
        self.truncate = truncate
        self._loop = asyncio.get_running_loop()
        self.response: asyncio.Future[Vectors] = self._loop.create_future()

    def respond(self, vectors: Vectors | None = None) -> None:
        """Respond with vectors; by default with one for each text."""
        vectors = accept_all(self.texts) if vectors is None else vectors
        self._loop.call_soon_threadsafe(self.response.set_result, vectors)

    def fail(self, error: Exception) -> None:
        """Respond with an error."""
        self._loop.call_soon_threadsafe(self.response.set_exception, error)


class ManualEmbedder:
    """An embedder whose requests the test responds to, unless it has a behaviour.

    Attributes:
        behaviour: Returns the vectors of a request, or raises.
        model_info: What `check` returns, or the errors that it raises first.
        delay_s: Seconds that a text takes, with a behaviour; one request at a time.
        check_s: Seconds that `check` takes.
    """

    model = "m"

    def __init__(
        self, behaviour: Behaviour | None = None, *, name: str = "e", max_texts: int = 512
    ) -> None:
        self.behaviour = behaviour
        self.name = name
        self.max_texts = max_texts
        self.model_info: list[ModelInfo | Exception] = [ModelInfo(2)]
        self.delay_s = self.check_s = 0.0
        self.requests: list[ManualRequest] = []
        self.checks = 0
        self._computing = asyncio.Lock()

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[bytes | None]:
        request = ManualRequest(texts, timeout_s, truncate)
        self.requests.append(request)
        if self.behaviour is None:
            return list(await request.response)
        async with self._computing:
            await asyncio.sleep(self.delay_s * len(texts))
            return list(self.behaviour(texts))

    async def check(self) -> ModelInfo:
        self.checks += 1
        await asyncio.sleep(self.check_s)
        result = self.model_info.pop(0) if len(self.model_info) > 1 else self.model_info[0]
        if isinstance(result, Exception):
            raise result
        return result

    @property
    def windows(self) -> list[list[str]]:
        """The texts of each request so far."""
        return [request.texts for request in self.requests]

    def request(self, number: int) -> ManualRequest:
        """Wait for a request by its number, from 0."""
        eventually(lambda: len(self.requests) > number)
        return self.requests[number]


class BatcherSetup:
    """A batcher with everything that it needs.

    Args:
        embedders: The endpoints of the primary pool.
        learn: Whether the batcher checks the model before the test begins.
        fallback: The only endpoint of the fallback, which takes over after `after_s`.
        fallback_rules: The text rules of the fallback.

    Attributes:
        crashes: The fatal errors so far.
        outputs_busy: Whether the outputs have enough work.
        done: The texts of the finished jobs, in order.
    """

    def __init__(
        self,
        *embedders: ManualEmbedder,
        rules: TextRules | None = None,
        limits: WindowLimits | None = None,
        cache_pages: int = 0,
        detect_lowercase: bool = False,
        learn: bool = True,
        fallback: ManualEmbedder | None = None,
        fallback_rules: TextRules | None = None,
        after_s: float = 0.0,
        concurrency: int = CONCURRENCY,
        min_pause_s: float = 0.002,
        max_pause_s: float = 0.01,
        target_s: float = TARGET_S,
        min_failing_s: float = MIN_FAILING_S,
        min_stall_s: float = MIN_STALL_S,
    ) -> None:
        self.crashes: list[BaseException] = []
        self.outputs_busy = False
        self.metrics = Metrics()
        self.stalls = Stalls(self.metrics, min_stall_s=min_stall_s)
        self.event_loop = EventLoop(self.crashes.append)
        self.primary = EndpointPool(
            embedders,
            rules or TextRules("m"),
            cache=VectorCache(cache_pages, self.metrics),
            detect_lowercase=detect_lowercase,
            concurrency=concurrency,
            min_pause_s=min_pause_s,
            max_pause_s=max_pause_s,
            target_s=target_s,
        )
        self.fallback = self._fallback(fallback, fallback_rules, after_s, cache_pages)
        self.batcher = Batcher(
            self.primary,
            self.fallback,
            limits=limits or WindowLimits(),
            event_loop=self.event_loop,
            stalls=self.stalls,
            metrics=self.metrics,
            outputs_busy=lambda: self.outputs_busy,
            min_failing_s=min_failing_s,
        )
        self.done: list[str] = []
        if learn:
            self.batcher.start()
            eventually(lambda: self.batcher.rules)

    def _fallback(
        self,
        embedder: ManualEmbedder | None,
        rules: TextRules | None,
        after_s: float,
        cache_pages: int,
    ) -> Failover | None:
        if embedder is None:
            return None
        pool = EndpointPool(
            [embedder],
            rules or TextRules("f"),
            cache=VectorCache(cache_pages, self.metrics),
            is_fallback=True,
            first_index=len(self.primary.endpoints),
            min_pause_s=0.002,
            max_pause_s=0.01,
        )
        return Failover(
            pool, self.primary, after_s, self.metrics, check_every_s=0.002, probe_every_s=0.005
        )

    def submit(self, *texts: str) -> list[EmbeddingJob[None]]:
        jobs = [EmbeddingJob(text, self._finished, None) for text in texts]
        self.batcher.submit(jobs)
        return jobs

    def _finished(self, job: EmbeddingJob[None]) -> None:
        self.done.append(job.text)

    def await_done(self, count: int) -> None:
        eventually(lambda: len(self.done) >= count or self.crashes)
        assert not self.crashes
        assert len(self.done) == count

    def settle(self) -> None:
        """Wait until the event loop has run everything that was scheduled."""
        for _ in range(5):
            self.event_loop.submit(asyncio.sleep(0)).result(10)
