"""A second pool that embeds while the first one is away.

                 no answer for EMBED_FALLBACK_AFTER seconds,
                 and the fallback answers a plain question
    ┌─────────┐ ──────────────────────────────────────────► ┌──────────┐
    │ primary │                                             │ fallback │
    └─────────┘ ◄────────────────────────────────────────── └──────────┘
                 the primary answers a plain question

Its vectors are of another space: each page that gets one is marked so, which makes a dead letter
`other-space` of it, beside its row and its notification.
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
    """The fallback at its work.

    Attributes:
        name: The fallback, as people are shown it.
        model: Its model.
        since: When it took over (seconds since 1970).
        reason: Why the primary does not embed.
        pages: Pages it has embedded since.
        held: Pages that it refuses, which wait for the primary.
    """

    name: str
    model: str
    since: float
    reason: str
    pages: int
    held: int


class Failover:
    """Watches a primary pool, and lets another one work as long as that is away.

    Used on the event loop only.

    Args:
        pool: The fallback.
        primary: Whom it stands in for.
        after_s: Seconds without an answer before it does.
        metrics: Where `gibsey_fallback_at_work` is kept.
        check_every_s: How often the failover checks whether `after_s` is over.
        probe_every_s: How often it checks whether the primary is back.
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
        self._check_every_s = check_every_s
        self._probe_every_s = probe_every_s
        self.pool = pool
        self._primary = primary
        self._after_s = after_s
        self._at_work = metrics.fallback_at_work
        self._log = logs.get("embedder")
        self._halted = False
        self._since: float | None = None
        self._pages_before = 0

    def halt(self) -> None:
        """Switch no more."""
        self._halted = True

    async def watch(
        self, use: Callable[[EndpointPool], None], failed: Callable[[RetryableError], None]
    ) -> None:
        """Take over and go back, until `halt`.

        Args:
            use: Called with the pool that is to embed from now on.
            failed: Called with the fault of a fallback that cannot take over.
        """
        while not self._halted:
            await self._primary.away.wait()
            if not await self._is_due():
                await asyncio.sleep(self._check_every_s)
            elif await self.pool.answers():
                if self._primary.away.is_set() and not self._halted:  # it may be back by now
                    self._take_over(use)
                    await self._until_primary_answers()
                    self._go_back(use)
            elif self.pool.latest_fault is not None:
                failed(self.pool.latest_fault)

    async def _is_due(self) -> bool:
        """Whether the primary has been away for long enough, and the fallback may be asked.

        Failed windows alone do not say that it is away: a text may be to blame for them.
        """
        if self._primary.away_s < self._after_s:
            return False
        if any(one.retry_at > time.monotonic() for one in self.pool.endpoints):
            return False
        # until it has told about its model, it is being asked all the time
        return self._primary.rules is None or not await self._primary.answers()

    async def _until_primary_answers(self) -> None:
        while self._primary.away.is_set() and not self._halted:
            await asyncio.sleep(self._probe_every_s)
            if self._primary.rules is not None and self._primary.away.is_set():
                await self._primary.answers()

    def _take_over(self, use: Callable[[EndpointPool], None]) -> None:
        self._since = time.time()
        self._pages_before = self.pool.pages
        self._at_work.set(1)
        self._log.warning(
            "the fallback takes over",
            model=self.pool.model,
            at=self.pool.endpoints[0].client.name,
            embedder=self._reason(),
            remedy=f"when the embedder is back: {REMEDY}",
        )
        use(self.pool)

    def _go_back(self, use: Callable[[EndpointPool], None]) -> None:
        if self._primary.away.is_set():  # a stop was asked for
            return
        pages = self.pool.pages - self._pages_before
        self._log.warning(
            "the embedder is back: the fallback's work ends",
            after_s=round(time.time() - (self._since or 0.0)),
            pages=pages,
            **({"remedy": REMEDY} if pages else {}),
        )
        self._since = None
        self._at_work.set(0)
        self.pool.forget()
        use(self._primary)

    def both(self, error: RetryableError) -> RetryableError:
        """What is to be said of a fault while neither of the two works."""
        primary, own = self._primary.latest_fault, self.pool.latest_fault
        if primary is None or own is None:
            return error
        detail = f"{primary.detail}; its fallback: {own.detail}"
        remedies = [
            fault.remedy for fault in (primary, own) if isinstance(fault, ConfigurationError)
        ]
        if remedies:
            return ConfigurationError(detail, remedy="; ".join(remedies))
        return TransientError(detail, lasted_s=primary.lasted_s)

    def status(self, held: int) -> FallbackStatus | None:
        """What it does at this moment; None while it does not work."""
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
        fault = self._primary.latest_fault
        return fault.detail if fault else "it answers again"
