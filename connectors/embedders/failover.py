"""The failover to a second pool, which embeds while the first one is unavailable.

                 every endpoint fails for EMBED_FALLBACK_AFTER seconds,
                 and a probe of the fallback succeeds
    ┌─────────┐ ──────────────────────────────────────────► ┌──────────┐
    │ primary │                                             │ fallback │
    └─────────┘ ◄────────────────────────────────────────── └──────────┘
                 a probe of the primary succeeds

The fallback's vectors cannot be compared with the primary's. Each page that has one is marked, so
that a dead letter `other-space` follows beside its row and its notification.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from connectors.core.errors import ConfigurationError, RetryableError, TransientError
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.observability import logs
from connectors.observability.metrics import Metrics

CHECK_EVERY_S = 0.25
PROBE_EVERY_S = 3.0
REMEDY = "gibsey-embedder replay --reason other-space"


@dataclass(frozen=True, slots=True)
class FallbackStatus:
    """What the status page shows of a fallback at work.

    Attributes:
        name: Scheme, host and port of the fallback.
        model: Its model.
        since: When it took over (seconds since 1970).
        reason: Why the primary does not embed.
        pages: Pages that it has embedded since.
        held: Pages that it refuses, which wait for the primary.
    """

    name: str
    model: str
    since: float
    reason: str
    pages: int
    held: int


class Failover:
    """Watches the primary pool, and lets the fallback embed while the primary is unavailable.

    Used on the event loop only.

    Args:
        pool: The fallback.
        primary: The primary.
        after_s: Seconds that every endpoint of the primary must fail before the fallback embeds.
        metrics: Shows whether the fallback embeds.
        check_every_s: How often the failover checks whether `after_s` is over.
        probe_every_s: How often it probes the primary while the fallback embeds.
    """

    def __init__(
        self,
        pool: EndpointPool,
        primary: EndpointPool,
        after_s: float,
        metrics: Metrics,
        *,
        check_every_s: float = CHECK_EVERY_S,
        probe_every_s: float = PROBE_EVERY_S,
    ) -> None:
        self.pool = pool
        self._primary = primary
        self._after_s = after_s
        self._check_every_s = check_every_s
        self._probe_every_s = probe_every_s
        self._at_work = metrics.fallback_at_work
        self._log = logs.get("embedder")
        self._halted = False
        self._since: float | None = None
        self._pages_before = 0

    def halt(self) -> None:
        """Stop switching."""
        self._halted = True

    async def watch(
        self, use: Callable[[EndpointPool], None], report: Callable[[RetryableError], None]
    ) -> None:
        """Switch between the pools until `halt`.

        Args:
            use: Called with the pool that embeds from now on.
            report: Called with the error of a fallback that cannot take over.
        """
        while not self._halted:
            await self._primary.unavailable.wait()
            if not await self._is_due():
                await asyncio.sleep(self._check_every_s)
            elif await self.pool.probe():
                # the primary may have recovered meanwhile
                if self._primary.unavailable.is_set() and not self._halted:
                    self._take_over(use)
                    await self._wait_for_primary()
                    self._hand_back(use)
            elif self.pool.last_error is not None:
                report(self.pool.last_error)

    async def _is_due(self) -> bool:
        """Return whether the primary was unavailable for long enough to probe the fallback.

        Failed windows alone do not prove that the primary is unavailable: a text may cause them.
        """
        if self._primary.unavailable_s < self._after_s:
            return False
        if any(one.retry_at > time.monotonic() for one in self.pool.endpoints):
            return False
        # until the primary has described its model, the batcher checks it all the time
        return self._primary.rules is None or not await self._primary.probe()

    async def _wait_for_primary(self) -> None:
        while self._primary.unavailable.is_set() and not self._halted:
            await asyncio.sleep(self._probe_every_s)
            if self._primary.rules is not None and self._primary.unavailable.is_set():
                await self._primary.probe()

    def _take_over(self, use: Callable[[EndpointPool], None]) -> None:
        self._since = time.time()
        self._pages_before = self.pool.pages
        self._at_work.set(1)
        self._log.warning(
            "the fallback takes over",
            model=self.pool.model,
            at=self.pool.endpoints[0].client.name,
            embedder=self._reason(),
            remedy=f"when the embedder is available again: {REMEDY}",
        )
        use(self.pool)

    def _hand_back(self, use: Callable[[EndpointPool], None]) -> None:
        if self._primary.unavailable.is_set():  # the process stops
            return
        pages = self.pool.pages - self._pages_before
        self._log.warning(
            "the embedder is available again: the fallback stops",
            after_s=round(time.time() - (self._since or 0.0)),
            pages=pages,
            **({"remedy": REMEDY} if pages else {}),
        )
        self._since = None
        self._at_work.set(0)
        self.pool.clear_cache()
        use(self._primary)

    def combine_errors(self, error: RetryableError) -> RetryableError:
        """Return one error for both pools if neither of them works; else the error given."""
        primary, own = self._primary.last_error, self.pool.last_error
        if primary is None or own is None:
            return error
        detail = f"{primary.detail}; its fallback: {own.detail}"
        remedies = [one.remedy for one in (primary, own) if isinstance(one, ConfigurationError)]
        if remedies:
            return ConfigurationError(detail, remedy="; ".join(remedies))
        return TransientError(detail, lasted_s=primary.lasted_s)

    def status(self, held: int) -> FallbackStatus | None:
        """Return what the status page shows; None while the primary embeds."""
        if self._since is None:
            return None
        return FallbackStatus(
            name=self.pool.endpoints[0].client.name,
            model=self.pool.model,
            since=self._since,
            reason=self._reason(),
            pages=self.pool.pages - self._pages_before,
            held=held,
        )

    def _reason(self) -> str:
        error = self._primary.last_error
        return error.detail if error else "it answers again"
