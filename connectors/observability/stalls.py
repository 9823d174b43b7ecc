"""What the stream waits for, said once at the start, once a minute, and once at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.core.errors import ConfigurationError, RetryableError, ServiceError
from connectors.observability import logs
from connectors.observability.metrics import Metrics

MIN_STALL_S = 1.0
"""A fault shorter than this is a hiccup, retried without a word."""

REPEAT_S = 60.0
"""A stall that lasts is said again this often."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A service that the stream waits for.

    Attributes:
        service: `kafka`, `embedder`, `stargate`, `rag`, `dead-letters` or `recovery`.
        reason: What the service answered, in words.
        remedy: What to do, or empty where waiting is all there is to do.
        since: When the first fault of this stall was seen (seconds since 1970).
        faults: How many faults were seen since.
    """

    service: str
    reason: str
    remedy: str
    since: float
    faults: int = 1


class Stalls:
    """The stalls of one process, fed by everything that talks to a service.

    Args:
        metrics: Where `gibsey_stalled` and `gibsey_retries_total` are kept.
        clock: The time, for tests.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._stalls: dict[str, Stall] = {}
        self._said_at: dict[str, float] = {}
        self._log = logs.get("stream")

    def waiting(
        self,
        service: str,
        reason: str,
        remedy: str = "",
        *,
        at_once: bool = False,
        lasted_s: float = 0.0,
    ) -> None:
        """Say that a service failed once more.

        Args:
            service: The service.
            reason: What it answered.
            remedy: What a person can do about it.
            at_once: Log it although it has only begun (a fault that will not pass by itself).
            lasted_s: Seconds that the service had been silent for when it was called a fault.
        """
        reason = logs.redact(reason)  # the status port shows it
        now = self._clock()
        with self._lock:
            known = self._stalls.get(service)
            since, faults = (known.since, known.faults) if known else (now - lasted_s, 0)
            stall = Stall(service, reason, remedy, since, faults + 1)
            self._stalls[service] = stall
            lasting = at_once or bool(remedy) or now - since >= MIN_STALL_S
            changed = known is not None and known.reason != reason
            say = lasting and self._due(service, now, changed)
            if lasting:  # under the lock, as in `cleared`, or an old 1 might outlast a new 0
                self._metrics.stalled.labels(service).set(1)
        if say:
            self._say(stall, now)

    def _say(self, stall: Stall, now: float) -> None:
        self._log.warning(
            "waiting",
            service=stall.service,
            reason=stall.reason,
            since_s=round(now - stall.since),
            **({"remedy": stall.remedy} if stall.remedy else {}),
        )

    def _due(self, service: str, now: float, changed: bool) -> bool:
        pause = 5.0 if changed else REPEAT_S
        if now - self._said_at.get(service, float("-inf")) < pause:
            return False
        self._said_at[service] = now
        return True

    def failed(self, service: str, error: ServiceError) -> None:
        """Record a failed try, with the remedy where the error knows one."""
        self._metrics.retries.labels(service).inc()
        remedy = error.remedy if isinstance(error, ConfigurationError) else ""
        lasted_s = error.lasted_s if isinstance(error, RetryableError) else 0.0
        self.waiting(service, error.detail, remedy, at_once=bool(remedy), lasted_s=lasted_s)

    def cleared(self, service: str, words: str = "answers again") -> None:
        """Say that a service answered again, or what else ends the waiting for it."""
        if service not in self._stalls:  # the hot path: no lock for what is well
            return
        with self._lock:
            stall = self._stalls.pop(service, None)
            said = self._said_at.pop(service, None)
            self._metrics.stalled.labels(service).set(0)
        if stall is None:
            return
        if said is not None:
            self._log.info(words, service=service, after_s=round(self._clock() - stall.since, 1))

    def has(self, service: str) -> bool:
        """Whether the latest try of a service failed."""
        return service in self._stalls

    def current(self) -> list[Stall]:
        """The stalls that have outlasted a hiccup, oldest first."""
        now = self._clock()
        with self._lock:
            found = [replace(s) for s in self._stalls.values()]
        lasting = [s for s in found if s.remedy or now - s.since >= MIN_STALL_S]
        return sorted(lasting, key=lambda s: s.since)
