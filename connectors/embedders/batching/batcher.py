"""The batcher gathers the texts of all workers into windows, and has them embedded.

A window closes when an endpoint has a free slot. Under light load a window holds one text and
nothing waits; under heavy load the windows fill. Each endpoint has two or more requests in flight,
one that it computes and one queued behind it, so that it is never idle between two windows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from typing_extensions import override

from connectors.core.errors import RetryableError, ServiceError
from connectors.embedders.base import ModelInfo
from connectors.embedders.batching.batch_queue import BatchQueue, WindowLimits
from connectors.embedders.batching.error_attribution import MIN_FAILING_S, WindowErrorAttribution
from connectors.embedders.batching.failure_recorder import FailureRecorder
from connectors.embedders.batching.interface import BatcherStatus, JobEmbedder
from connectors.embedders.batching.jobs import EmbeddingJob, PendingChunk
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint import Endpoint, EndpointStatus, as_retryable
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.embedders.failover import Failover, FallbackStatus
from connectors.embedders.service import SERVICE
from connectors.embedders.text_rules import TextRules
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.event_loop import EventLoop

OUTPUTS_POLL_S = 0.02
"""How often the batcher checks whether the outputs have become less busy."""


class Batcher(JobEmbedder, BatcherStatus):
    """Gathers the texts of a process into windows, and sends them to the embedder.

    Args:
        primary: The endpoints that embed.
        fallback: The failover to other endpoints, if there is one.
        limits: The limits of one window.
        event_loop: The loop that runs the batcher.
        stalls: Reports an embedder that is unavailable.
        metrics: Counts windows.
        outputs_busy: Returns whether the outputs have enough work, so that the next window can
            wait. A page that waits as a text takes a tenth of the memory of its two vectors.
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
        self._primary = primary
        self._fallback = fallback
        self._endpoints = [*primary.endpoints, *(fallback.pool.endpoints if fallback else ())]
        self._limits = limits
        self._event_loop = event_loop
        self._stalls = stalls
        self._metrics = metrics
        self._outputs_busy = outputs_busy
        self._log = logs.get("embedder")
        self._queue_seconds = metrics.stage.labels("queue")
        self._in_flight = {
            e.index: metrics.embed_in_flight.labels(str(e.index)) for e in self._endpoints
        }
        self._queue = BatchQueue(primary)
        self._attribution = WindowErrorAttribution(self._queue, metrics, min_failing_s)
        self._failures = FailureRecorder(self._queue, fallback, stalls, metrics)
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._started = False
        self._halted: Future[None] | None = None

    # --- called from any thread ---

    def start(self) -> None:
        """Check the embedder's model in the background."""
        self._event_loop.call(self._start)

    @override
    def submit(self, jobs: Sequence[EmbeddingJob[Any]]) -> None:
        self._event_loop.call(self._add, jobs)

    @override
    def halt(self) -> Future[None]:
        done: Future[None] = Future()
        self._event_loop.call(self._halt, done)
        return done

    @property
    @override
    def rules(self) -> TextRules | None:
        return self._primary.rules

    @property
    def model_info(self) -> ModelInfo | None:
        """What the primary reported about its model."""
        return self._primary.model_info

    @property
    @override
    def queued_texts(self) -> int:
        return len(self._queue)

    @override
    def endpoints(self) -> list[EndpointStatus]:
        is_fallback = self._queue.pool is not self._primary
        used = self._endpoints if is_fallback else self._primary.endpoints
        return [endpoint.status for endpoint in used]

    @property
    @override
    def fallback_status(self) -> FallbackStatus | None:
        return self._fallback.status(self._queue.held) if self._fallback else None

    # --- start and halt; from here on, all runs on the event loop ---

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._event_loop.spawn(self._learn_rules())
            if self._fallback is not None:
                self._event_loop.spawn(self._fallback.watch(self._use, self._failures.report_stall))

    async def _learn_rules(self) -> None:
        """Check the endpoints, each as soon as its pause ends, until one describes its model."""
        while self._halted is None:
            endpoint = min(self._primary.endpoints, key=lambda one: one.retry_at)
            await asyncio.sleep(max(0.0, endpoint.retry_at - time.monotonic()))
            sent_at = time.monotonic()
            try:
                model_info = await endpoint.client.check()
            except ServiceError as error:
                self._failures.endpoint_failed(endpoint, as_retryable(error), sent_at)
            else:
                endpoint.checked_at = time.monotonic()
                self._primary.learn(model_info)
                self._apply_rules_of(endpoint)
                return

    def _halt(self, done: Future[None]) -> None:
        if self._halted is None:
            self._halted = Future()
        if self._fallback is not None:
            self._fallback.halt()
        self._halted.add_done_callback(lambda _: done.set_result(None))
        self._finish_halt()

    def _finish_halt(self) -> None:
        is_idle = not any(e.in_flight for e in self._endpoints)
        if self._halted is not None and is_idle and not self._halted.done():
            self._halted.set_result(None)

    # --- the queue ---

    def _use(self, pool: EndpointPool) -> None:
        """Let a pool embed from now on, including the pages that wait for the other one."""
        jobs = self._queue.switch(pool)
        event = "continues with the fallback" if pool.is_fallback else "answers again"
        self._stalls.cleared(SERVICE.name, event)
        self._add(jobs)

    def _apply_rules_of(self, endpoint: Endpoint) -> None:
        """Prepare the waiting texts again, by the rules that a server of the primary requires."""
        if self._primary.is_lowercased:
            self._log.warning(
                "texts are lower-cased: to this server, all capitalised words look the same",
                endpoint=endpoint.client.name,
                setting="EMBED_LOWERCASE",
            )
        if self._queue.pool is self._primary:
            self._use(self._primary)

    def _add(self, jobs: Sequence[EmbeddingJob[Any]]) -> None:
        self._start()
        pool = self._queue.pool
        for job in jobs:
            vector = pool.cached_vector(job.text)
            if vector is None:
                self._queue.add(job)
                continue
            job.sent = True
            pool.pages += 1
            job.complete(vector, pool.model, other_space=pool.is_fallback)
        self._queue.sweep()
        self._fill_windows()

    # --- windows ---

    def _fill_windows(self) -> None:
        """Send windows while there are texts and free endpoints."""
        while self._queue and self._queue.pool.rules and self._halted is None:
            endpoint = self._free_endpoint()
            if endpoint is None or self._waits_for_texts() or self._waits_for_outputs():
                return
            window = self._queue.close_window(endpoint, self._limits)
            if not window:
                return
            self._send_window(endpoint, window)

    def _free_endpoint(self) -> Endpoint | None:
        now = time.monotonic()
        # an isolated text is sent alone, so that its failure cannot be another text's
        is_alone = self._queue.begins_with_isolated
        endpoints = self._queue.pool.endpoints
        idle = [e for e in endpoints if e.in_flight < (1 if is_alone else e.slots)]
        free = [e for e in idle if e.retry_at <= now]
        if free:
            return min(free, key=Endpoint.load)
        if idle:
            self._fill_windows_in(min(e.retry_at for e in idle) - now)
        return None

    def _waits_for_texts(self) -> bool:
        if not self._limits.wait_s or len(self._queue) >= self._limits.pages:
            return False
        left_s = self._limits.wait_s - (time.monotonic() - self._queue.oldest.since)
        if left_s > 0:
            self._fill_windows_in(left_s)
        return left_s > 0

    def _waits_for_outputs(self) -> bool:
        is_busy = self._outputs_busy()
        if is_busy:
            self._fill_windows_in(OUTPUTS_POLL_S)
        return is_busy

    def _fill_windows_in(self, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + max(seconds, 0.001)
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer = self._event_loop.call_at(at, self._timer_fired)
        self._timer_at = at

    def _timer_fired(self) -> None:
        self._timer = None
        self._fill_windows()

    # --- requests ---

    def _send_window(self, endpoint: Endpoint, window: list[PendingChunk]) -> None:
        now = time.monotonic()
        for pending in window:
            job = pending.job
            if not job.sent:
                job.sent = True
                self._queue_seconds.observe(now - job.since)
        self._metrics.window_pages.observe(len(window))
        cost = sum(cost_chars(pending.chunk.text) for pending in window)
        self._event_loop.spawn(self._embed(endpoint, window, cost))
        endpoint.has_isolated = window[0].chunk.is_isolated
        endpoint.in_flight += 1
        endpoint.in_flight_chars += cost
        self._in_flight[endpoint.index].set(endpoint.in_flight)

    async def _embed(self, endpoint: Endpoint, window: list[PendingChunk], cost: int) -> None:
        sent_at = time.monotonic()
        try:
            if await self._is_sendable(endpoint, window, sent_at):
                await self._attribution.embed(endpoint, window)
                self._failures.request_succeeded(endpoint)
        except RetryableError as error:
            self._failures.request_failed(endpoint, error, sent_at)
            await self._attribution.window_failed(endpoint, window, error)
        finally:
            endpoint.has_isolated = False  # an isolated text was the only one in flight
            endpoint.in_flight -= 1
            endpoint.in_flight_chars -= cost
            self._in_flight[endpoint.index].set(endpoint.in_flight)
        self._finish_halt()
        self._fill_windows()

    async def _is_sendable(
        self, endpoint: Endpoint, window: list[PendingChunk], sent_at: float
    ) -> bool:
        """Check a server that may have been updated; return a window that it cannot take.

        The texts of the window are not the cause if the check fails.
        """
        pool = endpoint.pool
        try:
            if pool.needs_recheck(endpoint) and await pool.recheck(endpoint):
                self._apply_rules_of(endpoint)
        except ServiceError as error:
            self._failures.request_failed(endpoint, as_retryable(error), sent_at)
        else:
            if self._halted is None and all(p.chunk.rules is pool.rules for p in window):
                return True
        self._queue.put_back(pool, window)
        return False
