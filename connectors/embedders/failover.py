"""A second provider that embeds while the first one is away.

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

from connectors.core.errors import SetupFault, Transient
from connectors.embedders.endpoint_pool import Provider
from connectors.observability import logs
from connectors.observability.metrics import Metrics

LOOK_S = 0.25
"""How often it is looked whether the time has come."""
PROBE_S = 3.0
"""How often the primary is asked whether it is back."""
REMEDY = "gibsey-embedder replay --reason other-space"


@dataclass(frozen=True, slots=True)
class StandingIn:
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


class Fallback:
    """Watches a primary provider, and lets another one work as long as that is away.

    Used on the I/O loop only.

    Args:
        provider: The fallback.
        primary: Whom it stands in for.
        after_s: Seconds without an answer before it does.
        metrics: Where `gibsey_fallback_at_work` is kept.
    """

    def __init__(
        self, provider: Provider, primary: Provider, after_s: float, metrics: Metrics
    ) -> None:
        self.provider = provider
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
        self, use: Callable[[Provider], None], failed: Callable[[Transient], None]
    ) -> None:
        """Take over and go back, until `halt`.

        Args:
            use: Called with the provider that is to embed from now on.
            failed: Called with the fault of a fallback that cannot take over.
        """
        while not self._halted:
            await self._primary.away.wait()
            if not await self._is_due():
                await asyncio.sleep(LOOK_S)
            elif await self.provider.answers():
                if self._primary.away.is_set() and not self._halted:  # it may be back by now
                    self._take_over(use)
                    await self._until_primary_answers()
                    self._go_back(use)
            elif self.provider.latest_fault is not None:
                failed(self.provider.latest_fault)

    async def _is_due(self) -> bool:
        """Whether the primary has been away for long enough, and the fallback may be asked.

        Failed windows alone do not say that it is away: a text may be to blame for them.
        """
        if self._primary.away_s < self._after_s:
            return False
        if any(one.retry_at > time.monotonic() for one in self.provider.endpoints):
            return False
        # until it has told about its model, it is being asked all the time
        return self._primary.rules is None or not await self._primary.answers()

    async def _until_primary_answers(self) -> None:
        while self._primary.away.is_set() and not self._halted:
            await asyncio.sleep(PROBE_S)
            if self._primary.rules is not None and self._primary.away.is_set():
                await self._primary.answers()

    def _take_over(self, use: Callable[[Provider], None]) -> None:
        self._since = time.time()
        self._pages_before = self.provider.pages
        self._at_work.set(1)
        self._log.warning(
            "the fallback takes over",
            model=self.provider.model,
            at=self.provider.endpoints[0].client.name,
            embedder=self._reason(),
            remedy=f"when the embedder is back: {REMEDY}",
        )
        use(self.provider)

    def _go_back(self, use: Callable[[Provider], None]) -> None:
        if self._primary.away.is_set():  # a stop was asked for
            return
        pages = self.provider.pages - self._pages_before
        self._log.warning(
            "the embedder is back: the fallback's work ends",
            after_s=round(time.time() - (self._since or 0.0)),
            pages=pages,
            **({"remedy": REMEDY} if pages else {}),
        )
        self._since = None
        self._at_work.set(0)
        self.provider.forget()
        use(self._primary)

    def both(self, error: Transient) -> Transient:
        """What is to be said of a fault while neither of the two works."""
        primary, own = self._primary.latest_fault, self.provider.latest_fault
        if primary is None or own is None:
            return error
        detail = f"{primary.detail}; its fallback: {own.detail}"
        remedies = [fault.remedy for fault in (primary, own) if isinstance(fault, SetupFault)]
        if remedies:
            return SetupFault(detail, remedy="; ".join(remedies))
        return Transient(detail, lasted_s=primary.lasted_s)

    def status(self, held: int) -> StandingIn | None:
        """What it does at this moment; None while it does not work."""
        if self._since is None:
            return None
        return StandingIn(
            name=self.provider.endpoints[0].client.name,
            model=self.provider.model,
            since=self._since,
            reason=self._reason(),
            pages=self.provider.pages - self._pages_before,
            held=held,
        )

    def _reason(self) -> str:
        fault = self._primary.latest_fault
        return fault.detail if fault else "it answers again"
