"""An embedder in the test's hand, and a batcher before it."""

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

Answer = Sequence["bytes | None"]
Behaviour = Callable[[Sequence[str]], Answer]


def takes_all(texts: Sequence[str]) -> Answer:
    """Answer with a vector for each text."""
    return [VECTOR] * len(texts)


class Asked:
    """A request that waits for the test's answer."""

    def __init__(self, texts: Sequence[str], timeout_s: float, truncate: bool) -> None:
        self.texts = list(texts)
        self.timeout_s = timeout_s
        self.truncate = truncate
        self._loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[Answer] = self._loop.create_future()

    def answer(self, answer: Answer | None = None) -> None:
        """Answer with vectors; by default with one for each text."""
        vectors = takes_all(self.texts) if answer is None else answer
        self._loop.call_soon_threadsafe(self.answered.set_result, vectors)

    def fail(self, error: Exception) -> None:
        self._loop.call_soon_threadsafe(self.answered.set_exception, error)


class ManualEmbedder:
    """An embedder whose requests are answered by the test, or by a behaviour it is given.

    Attributes:
        behaviour: Answers at once (or raises) instead of the test.
        model_info: What `check` answers, or the errors it raises first.
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
        self.asked: list[Asked] = []
        self.checks = 0
        self._computing = asyncio.Lock()

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[bytes | None]:
        asked = Asked(texts, timeout_s, truncate)
        self.asked.append(asked)
        if self.behaviour is None:
            return list(await asked.answered)
        async with self._computing:
            await asyncio.sleep(self.delay_s * len(texts))
            return list(self.behaviour(texts))

    async def check(self) -> ModelInfo:
        self.checks += 1
        await asyncio.sleep(self.check_s)
        answer = self.model_info.pop(0) if len(self.model_info) > 1 else self.model_info[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def windows(self) -> list[list[str]]:
        """The texts of each request so far."""
        return [asked.texts for asked in self.asked]

    def request(self, number: int) -> Asked:
        """The request of that number, from 0, once it came."""
        eventually(lambda: len(self.asked) > number)
        return self.asked[number]


class Line:
    """A batcher with everything it stands on; `crashes` holds what was fatal.

    Args:
        fallback: Stands in for the embedders after `after_s`, with `fallback_rules`.

    Attributes:
        outputs_busy: Whether the outputs have enough to do.
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
        """Let the loop do all that it has been told so far."""
        for _ in range(5):
            self.event_loop.submit(asyncio.sleep(0)).result(10)
