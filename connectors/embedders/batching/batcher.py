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

from connectors.core.errors import PageRefused, ServiceError, Transient
from connectors.embedders.base import ServerFacts, TextRules
from connectors.embedders.batching.batch_queue import WaitingTexts, WindowLimits
from connectors.embedders.batching.error_attribution import Judge
from connectors.embedders.batching.jobs import EmbedJob, Part
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint_pool import Endpoint, EndpointStatus, Provider
from connectors.embedders.failover import Fallback, StandingIn
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.event_loop import IoLoop

BUSY_LOOK_S = 0.02
"""How often it is seen whether outputs that had enough to do need more."""


class Batcher:
    """The one place of a process where texts wait for an embedder.

    Args:
        primary: Who embeds.
        fallback: Who does while that is away, if anybody.
        limits: The most that one window holds.
        io: The loop on which all of this happens.
        stalls: Where waiting is reported.
        metrics: Where windows are counted.
        outputs_busy: Whether the outputs have so much to do that another window can wait; a page
            that waits as text is a tenth of one that waits as two vectors.
    """

    def __init__(
        self,
        primary: Provider,
        fallback: Fallback | None = None,
        *,
        limits: WindowLimits,
        io: IoLoop,
        stalls: Stalls,
        metrics: Metrics,
        outputs_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._outputs_busy = outputs_busy
        self._primary = primary
        self._fallback = fallback
        self._endpoints = [*primary.endpoints, *(fallback.provider.endpoints if fallback else ())]
        self._limits = limits
        self._io = io
        self._stalls = stalls
        self._metrics = metrics
        self._log = logs.get("embedder")
        self._queue_seconds = metrics.stage.labels("queue")
        self._in_flight = {
            e.index: metrics.embed_in_flight.labels(str(e.index)) for e in self._endpoints
        }
        self._waiting = WaitingTexts(primary)
        self._judge = Judge(self._waiting, metrics)
        self._wake_up: asyncio.TimerHandle | None = None
        self._started = False
        self._halted: Future[None] | None = None

    def start(self) -> None:
        """Ask the embedder about its model, in the background; from any thread."""
        self._io.call(self._start)

    def submit(self, jobs: Sequence[EmbedJob]) -> None:
        """Take jobs; from any thread."""
        self._io.call(self._add, jobs)

    def halt(self) -> Future[None]:
        """Send no new window; the result comes when no request is in flight."""
        done: Future[None] = Future()
        self._io.call(self._halt, done)
        return done

    @property
    def rules(self) -> TextRules | None:
        """How the primary's texts are prepared; None until it has told about its model."""
        return self._primary.rules

    @property
    def facts(self) -> ServerFacts | None:
        """What the primary told about its model."""
        return self._primary.facts

    @property
    def waiting_texts(self) -> int:
        """Texts that wait for a window."""
        return len(self._waiting)

    def endpoints(self) -> list[EndpointStatus]:
        """The endpoints that are made use of."""
        stands_in = self._waiting.provider is not self._primary
        used = self._endpoints if stands_in else self._primary.endpoints
        return [endpoint.status for endpoint in used]

    @property
    def standing_in(self) -> StandingIn | None:
        """What the fallback does; None while the primary embeds."""
        return self._fallback.status(self._waiting.held) if self._fallback else None

    # --- the rest runs on the I/O loop ---

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
            self._io.spawn(self._learn_rules())
            if self._fallback is not None:
                self._io.spawn(self._fallback.watch(self._use, self._stalled))

    async def _learn_rules(self) -> None:
        """Ask the endpoints, each as soon as it may be, until one has told about its model."""
        while self._halted is None:
            endpoint = min(self._primary.endpoints, key=lambda one: one.retry_at)
            await asyncio.sleep(max(0.0, endpoint.retry_at - time.monotonic()))
            sent_at = time.monotonic()
            try:
                facts = await endpoint.client.check()
            except PageRefused as error:
                self._failed(endpoint, Transient(error.detail), sent_at)
            except Transient as error:
                self._failed(endpoint, error, sent_at)
            else:
                endpoint.seen_at = time.monotonic()
                self._primary.learn(facts)
                self._go_by_rules_of(endpoint)
                return

    def _failed(self, endpoint: Endpoint, error: Transient, sent_at: float) -> None:
        provider = endpoint.provider
        provider.failed(endpoint, error, sent_at)
        if provider is self._waiting.provider:
            self._stalled(error)
        else:  # the other one embeds meanwhile
            self._metrics.retries.labels("embedder").inc()

    def _stalled(self, error: Transient) -> None:
        self._stalls.failed("embedder", self._fallback.both(error) if self._fallback else error)

    def _use(self, provider: Provider) -> None:
        """Let a provider embed from now on, also what has waited for the other one."""
        waiting = self._waiting.switch(provider)
        words = "goes on with the fallback" if provider.stands_in else "answers again"
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
        if self._waiting.provider is self._primary:
            self._use(self._primary)

    def _add(self, jobs: Sequence[EmbedJob]) -> None:
        self._start()
        provider = self._waiting.provider
        for job in jobs:
            vector = provider.remembered(job.text)
            if vector is None:
                self._waiting.add(job)
                continue
            job.sent = True
            provider.pages += 1
            job.end_with(vector, provider.model, other_space=provider.stands_in)
        self._waiting.sweep()
        self._pump()

    def _pump(self) -> None:
        """Fill windows as long as there are texts and free endpoints."""
        while self._waiting and self._waiting.provider.rules and self._halted is None:
            endpoint = self._free_endpoint()
            if endpoint is None or self._waits_for_company() or self._waits_for_outputs():
                return
            window = self._waiting.close_window(endpoint, self._limits)
            if not window:
                return
            self._launch(endpoint, window)

    def _free_endpoint(self) -> Endpoint | None:
        now = time.monotonic()
        alone = self._waiting.begins_with_suspect  # or its neighbours would be suspected with it
        endpoints = self._waiting.provider.endpoints
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
        self._wake_up = self._io.call_at(at, self._woken)

    def _woken(self) -> None:
        self._wake_up = None
        self._pump()

    def _launch(self, endpoint: Endpoint, window: list[Part]) -> None:
        now = time.monotonic()
        for part in window:
            if not part.job.sent:
                part.job.sent = True
                self._queue_seconds.observe(now - part.job.since)
        self._metrics.window_pages.observe(len(window))
        self._io.spawn(self._run(endpoint, window))
        cost = sum(cost_chars(p.text) for p in window)
        endpoint.on_trial = window[0].is_suspect
        endpoint.in_flight += 1
        endpoint.in_flight_chars += cost
        self._in_flight[endpoint.index].set(endpoint.in_flight)

    async def _run(self, endpoint: Endpoint, window: list[Part]) -> None:
        cost = sum(cost_chars(p.text) for p in window)
        sent_at = time.monotonic()
        try:
            if await self._may_be_sent(endpoint, window, sent_at):
                await self._judge.embed(endpoint, window)
                self._answered(endpoint)
        except Transient as error:
            self._report(endpoint, error, sent_at)
            await self._judge.failed(endpoint, window, error)
        finally:
            endpoint.on_trial = False  # where it was, this was the only one
            endpoint.in_flight -= 1
            endpoint.in_flight_chars -= cost
            self._in_flight[endpoint.index].set(endpoint.in_flight)
        self._finish_halt()
        self._pump()

    def _answered(self, endpoint: Endpoint) -> None:
        endpoint.provider.answered(endpoint)
        if endpoint.provider is self._waiting.provider:
            self._stalls.cleared("embedder")

    async def _may_be_sent(self, endpoint: Endpoint, window: list[Part], sent_at: float) -> bool:
        """Look first at a server that may be another one than it was.

        Where it does not tell, or texts must go otherwise than these were prepared, they are put
        back: the fault is none of theirs.
        """
        provider = endpoint.provider
        if provider.is_doubtful(endpoint):
            try:
                if await provider.look_at(endpoint):
                    self._go_by_rules_of(endpoint)
            except ServiceError as error:
                fault = error if isinstance(error, Transient) else Transient(error.detail)
                self._report(endpoint, fault, sent_at)
                self._waiting.put_back(provider, window)
                return False
        is_as_needed = all(part.rules is provider.rules for part in window)
        if not is_as_needed or self._halted is not None:
            self._waiting.put_back(provider, window)
            return False
        return True

    def _report(self, endpoint: Endpoint, error: Transient, sent_at: float) -> None:
        others = [e for e in endpoint.provider.endpoints if e is not endpoint and not e.faults]
        if not others:
            self._failed(endpoint, error, sent_at)
        else:
            was_sound = not endpoint.faults
            endpoint.provider.failed(endpoint, error, sent_at)
            self._metrics.retries.labels("embedder").inc()
            if was_sound:
                self._log.warning("left out", endpoint=endpoint.client.name, reason=error.detail)
