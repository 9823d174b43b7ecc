"""Gathers the texts of all workers into windows and has them embedded.

A window closes the moment an embedder has a free slot, so light load means windows of one text
and no waiting, heavy load full windows. Each endpoint has two requests in flight or
more, one computing and one queued behind it, so that it is never idle between two windows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from connectors.core.errors import RejectedError, RetryableError, ServiceError, TransientError
from connectors.embedders.base import ModelInfo
from connectors.embedders.batching.batch_queue import BatchQueue, WindowLimits
from connectors.embedders.batching.error_attribution import MIN_FAILING_S, WindowErrorAttribution
from connectors.embedders.batching.jobs import EmbeddingJob, PendingChunk
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint import Endpoint, EndpointStatus
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.embedders.failover import Failover, FallbackStatus
from connectors.embedders.text_rules import TextRules
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.event_loop import EventLoop

BUSY_LOOK_S = 0.02
"""How often it is seen whether outputs that had enough to do need more."""


class Batcher:
    """The one place of a process where texts wait for an embedder.

    Args:
        primary: Who embeds.
        fallback: Who does while that is away, if anybody.
        limits: The most that one window holds.
        event_loop: The loop on which all of this happens.
        stalls: Where waiting is reported.
        metrics: Where windows are counted.
        outputs_busy: Whether the outputs have so much to do that another window can wait; a page
            that waits as text is a tenth of one that waits as two vectors.
        min_failing_s: How long the requests of a text must fail before it can be the cause.
    """

    def __init__(
        self,
        primary: EndpointPool,
        fallback: Failover | None = None,
        *,
        limits: WindowLimits,
        event_loop: EventLoop,
        stalls: Stalls,
        metrics: Metrics,
        outputs_busy: Callable[[], bool] = lambda: False,
        min_failing_s: float = MIN_FAILING_S,
    ) -> None:
        self._outputs_busy = outputs_busy
        self._primary = primary
        self._fallback = fallback
        self._endpoints = [*primary.endpoints, *(fallback.pool.endpoints if fallback else ())]
        self._limits = limits
        self._event_loop = event_loop
        self._stalls = stalls
        self._metrics = metrics
        self._log = logs.get("embedder")
        self._queue_seconds = metrics.stage.labels("queue")
        self._in_flight = {
            e.index: metrics.embed_in_flight.labels(str(e.index)) for e in self._endpoints
        }
        self._waiting = BatchQueue(primary)
        self._attribution = WindowErrorAttribution(self._waiting, metrics, min_failing_s)
        self._wake_up: asyncio.TimerHandle | None = None
        self._started = False
        self._halted: Future[None] | None = None

    def start(self) -> None:
        """Ask the embedder about its model, in the background; from any thread."""
        self._event_loop.call(self._start)

    def submit(self, jobs: Sequence[EmbeddingJob[Any]]) -> None:
        """Take jobs; from any thread."""
        self._event_loop.call(self._add, jobs)

    def halt(self) -> Future[None]:
        """Send no new window; the result comes when no request is in flight."""
        done: Future[None] = Future()
        self._event_loop.call(self._halt, done)
        return done

    @property
    def rules(self) -> TextRules | None:
        """How the primary's texts are prepared; None until it has told about its model."""
        return self._primary.rules

    @property
    def model_info(self) -> ModelInfo | None:
        """What the primary told about its model."""
        return self._primary.model_info

    @property
    def waiting_texts(self) -> int:
        """Texts that wait for a window."""
        return len(self._waiting)

    def endpoints(self) -> list[EndpointStatus]:
        """The endpoints that are made use of."""
        is_fallback = self._waiting.pool is not self._primary
        used = self._endpoints if is_fallback else self._primary.endpoints
        return [endpoint.status for endpoint in used]

    @property
    def fallback_status(self) -> FallbackStatus | None:
        """What the fallback does; None while the primary embeds."""
        return self._fallback.status(self._waiting.held) if self._fallback else None

    # --- the rest runs on the event loop ---

    def _halt(self, done: Future[None]) -> None:
        if self._halted is None:
            self._halted = Future()
        if self._fallback is not None:
            self._fallback.halt()
        self._halted.add_done_callback(lambda _: done.set_result(None))
        self._finish_halt()

    def _finish_halt(self) -> None:
        idle = not any(e.in_flight for e in self._endpoints)
        if self._halted is not None and idle and not self._halted.done():
            self._halted.set_result(None)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._event_loop.spawn(self._learn_rules())
            if self._fallback is not None:
                self._event_loop.spawn(self._fallback.watch(self._use, self._stalled))

    async def _learn_rules(self) -> None:
        """Ask the endpoints, each as soon as it may be, until one has told about its model."""
        while self._halted is None:
            endpoint = min(self._primary.endpoints, key=lambda one: one.retry_at)
            await asyncio.sleep(max(0.0, endpoint.retry_at - time.monotonic()))
            sent_at = time.monotonic()
            try:
                model_info = await endpoint.client.check()
            except RejectedError as error:
                self._failed(endpoint, TransientError(error.detail), sent_at)
            except RetryableError as error:
                self._failed(endpoint, error, sent_at)
            else:
                endpoint.seen_at = time.monotonic()
                self._primary.learn(model_info)
                self._go_by_rules_of(endpoint)
                return

    def _failed(self, endpoint: Endpoint, error: RetryableError, sent_at: float) -> None:
        pool = endpoint.pool
        pool.failed(endpoint, error, sent_at)
        if pool is self._waiting.pool:
            self._stalled(error)
        else:  # the other one embeds meanwhile
            self._metrics.retries.labels("embedder").inc()

    def _stalled(self, error: RetryableError) -> None:
        self._stalls.failed("embedder", self._fallback.both(error) if self._fallback else error)

    def _use(self, pool: EndpointPool) -> None:
        """Let a pool embed from now on, also what has waited for the other one."""
        waiting = self._waiting.switch(pool)
        words = "goes on with the fallback" if pool.is_fallback else "answers again"
        self._stalls.cleared("embedder", words)
        self._add(waiting)

    def _go_by_rules_of(self, endpoint: Endpoint) -> None:
        """Prepare what waits anew, after a server of the primary has told what it needs."""
        if self._primary.is_lowercased:
            self._log.warning(
                "texts are lower-cased: this server takes all words with capitals for the same",
                endpoint=endpoint.client.name,
                setting="EMBED_LOWERCASE",
            )
        if self._waiting.pool is self._primary:
            self._use(self._primary)

    def _add(self, jobs: Sequence[EmbeddingJob[Any]]) -> None:
        self._start()
        pool = self._waiting.pool
        for job in jobs:
            vector = pool.remembered(job.text)
            if vector is None:
                self._waiting.add(job)
                continue
            job.sent = True
            pool.pages += 1
            job.complete(vector, pool.model, other_space=pool.is_fallback)
        self._waiting.sweep()
        self._pump()

    def _pump(self) -> None:
        """Fill windows as long as there are texts and free endpoints."""
        while self._waiting and self._waiting.pool.rules and self._halted is None:
            endpoint = self._free_endpoint()
            if endpoint is None or self._waits_for_company() or self._waits_for_outputs():
                return
            window = self._waiting.close_window(endpoint, self._limits)
            if not window:
                return
            self._send_window(endpoint, window)

    def _free_endpoint(self) -> Endpoint | None:
        now = time.monotonic()
        alone = self._waiting.begins_with_isolated  # or its neighbours would be suspected with it
        endpoints = self._waiting.pool.endpoints
        idle = [e for e in endpoints if e.in_flight < (1 if alone else e.slots)]
        free = [e for e in idle if e.retry_at <= now]
        if free:
            return min(free, key=Endpoint.load)
        due = [e.retry_at for e in idle]
        if due:
            self._pump_in(min(due) - now)
        return None

    def _waits_for_company(self) -> bool:
        if not self._limits.wait_s or len(self._waiting) >= self._limits.pages:
            return False
        left = self._limits.wait_s - (time.monotonic() - self._waiting.oldest.since)
        if left > 0:
            self._pump_in(left)
        return left > 0

    def _waits_for_outputs(self) -> bool:
        busy = self._outputs_busy()
        if busy:
            self._pump_in(BUSY_LOOK_S)
        return busy

    def _pump_in(self, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + max(seconds, 0.001)
        if self._wake_up is not None:
            if self._wake_up.when() <= at:
                return
            self._wake_up.cancel()
        self._wake_up = self._event_loop.call_at(at, self._woken)

    def _woken(self) -> None:
        self._wake_up = None
        self._pump()

    def _send_window(self, endpoint: Endpoint, window: list[PendingChunk]) -> None:
        now = time.monotonic()
        for pending in window:
            job = pending.job
            if not job.sent:
                job.sent = True
                self._queue_seconds.observe(now - job.since)
        self._metrics.window_pages.observe(len(window))
        self._event_loop.spawn(self._run(endpoint, window))
        cost = sum(cost_chars(p.chunk.text) for p in window)
        endpoint.has_isolated = window[0].chunk.is_isolated
        endpoint.in_flight += 1
        endpoint.in_flight_chars += cost
        self._in_flight[endpoint.index].set(endpoint.in_flight)

    async def _run(self, endpoint: Endpoint, window: list[PendingChunk]) -> None:
        cost = sum(cost_chars(p.chunk.text) for p in window)
        sent_at = time.monotonic()
        try:
            if await self._may_be_sent(endpoint, window, sent_at):
                await self._attribution.embed(endpoint, window)
                self._answered(endpoint)
        except RetryableError as error:
            self._report(endpoint, error, sent_at)
            await self._attribution.window_failed(endpoint, window, error)
        finally:
            endpoint.has_isolated = False  # where it was, this was the only one
            endpoint.in_flight -= 1
            endpoint.in_flight_chars -= cost
            self._in_flight[endpoint.index].set(endpoint.in_flight)
        self._finish_halt()
        self._pump()

    def _answered(self, endpoint: Endpoint) -> None:
        endpoint.pool.answered(endpoint)
        if endpoint.pool is self._waiting.pool:
            self._stalls.cleared("embedder")

    async def _may_be_sent(
        self, endpoint: Endpoint, window: list[PendingChunk], sent_at: float
    ) -> bool:
        """Look first at a server that may be another one than it was.

        Where it does not tell, or texts must go otherwise than these were prepared, they are put
        back: the fault is none of theirs.
        """
        pool = endpoint.pool
        if pool.needs_recheck(endpoint):
            try:
                if await pool.recheck(endpoint):
                    self._go_by_rules_of(endpoint)
            except ServiceError as error:
                fault = error if isinstance(error, RetryableError) else TransientError(error.detail)
                self._report(endpoint, fault, sent_at)
                self._waiting.put_back(pool, window)
                return False
        is_as_needed = all(p.chunk.rules is pool.rules for p in window)
        if not is_as_needed or self._halted is not None:
            self._waiting.put_back(pool, window)
            return False
        return True

    def _report(self, endpoint: Endpoint, error: RetryableError, sent_at: float) -> None:
        others = [e for e in endpoint.pool.endpoints if e is not endpoint and not e.faults]
        if not others:
            self._failed(endpoint, error, sent_at)
        else:
            was_sound = not endpoint.faults
            endpoint.pool.failed(endpoint, error, sent_at)
            self._metrics.retries.labels("embedder").inc()
            if was_sound:
                self._log.warning("left out", endpoint=endpoint.client.name, reason=error.detail)
